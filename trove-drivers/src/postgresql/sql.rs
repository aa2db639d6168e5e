//! The only ways in which names and values become part of SQL text.

/// A name as a quoted identifier. It takes what the server takes; a NUL byte is refused by the protocol before the
/// server sees it.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A value as a string literal that reads the same whatever `standard_conforming_strings` is.
pub(super) fn literal(value: &str) -> String {
    let escape = if value.contains('\\') { " E" } else { "" };
    format!("{escape}'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_quote_early() {
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
