//! The only functions that put names and values into SQL text.

/// Returns a name as a quoted identifier. The protocol refuses NUL bytes before the server sees
/// them.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns a value as a string literal that does not depend on `standard_conforming_strings`.
pub(super) fn literal(value: &str) -> String {
    let escape = if value.contains('\\') { " E" } else { "" };
    format!("{escape}'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_cannot_be_escaped() {
        for (name, quoted) in [
            ("plain", r#""plain""#),
            (r#"a"b"#, r#""a""b""#),
            (r#"""#, r#""""""#),
            ("a'; DROP TABLE x; --", r#""a'; DROP TABLE x; --""#),
            (r"a\", r#""a\""#),
            ("名前 %s $1 $$", r#""名前 %s $1 $$""#),
        ] {
            assert_eq!(identifier(name), quoted);
        }
        for (value, quoted) in [
            ("plain", "'plain'"),
            ("o'brien", "'o''brien'"),
            (r"\'; DROP", r" E'\\''; DROP'"),
            (r"\", r" E'\\'"),
            ("a\"b", "'a\"b'"),
        ] {
            assert_eq!(literal(value), quoted);
        }
    }
}
