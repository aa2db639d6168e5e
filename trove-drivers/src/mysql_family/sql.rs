//! The only ways in which names and values become part of SQL text. A session's `sql_mode` is empty, so that there is one
//! rule for each.

/// A name as a quoted identifier.
pub(crate) fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A value as a string literal.
pub(crate) fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// A name as a pattern that only it matches.
pub(crate) fn pattern(name: &str) -> String {
    name.chars()
        .flat_map(|letter| matches!(letter, '\\' | '_' | '%').then_some('\\').into_iter().chain([letter]))
        .collect()
}

/// The name that a pattern made by [`pattern`] stands for.
pub(crate) fn from_pattern(pattern: &str) -> String {
    let (mut name, mut letters) = (String::with_capacity(pattern.len()), pattern.chars());
    while let Some(letter) = letters.next() {
        name.push(if letter == '\\' { letters.next().unwrap_or(letter) } else { letter });
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_quote_early() {
        for (name, quoted) in
            [("plain", "`plain`"), ("a`b", "`a``b`"), ("`", "````"), (r"a\", r"`a\`"), ("a'\"", "`a'\"`")]
        {
            assert_eq!(identifier(name), quoted);
        }
        for (value, quoted) in [
            ("plain", "'plain'"),
            ("o'brien", "'o''brien'"),
            (r"\'; DROP", r"'\\''; DROP'"),
            (r"\", r"'\\'"),
            ("a\"b`", "'a\"b`'"),
        ] {
            assert_eq!(literal(value), quoted);
        }
    }

    #[test]
    fn a_pattern_is_one_name() {
        for (name, quoted) in [("a_b", r"a\_b"), ("100%", r"100\%"), (r"a\b", r"a\\b"), (r"\_", r"\\\_"), ("é", "é")]
        {
            assert_eq!(pattern(name), quoted);
            assert_eq!(from_pattern(quoted), name);
        }
    }
}
