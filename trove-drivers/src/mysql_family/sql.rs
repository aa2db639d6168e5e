//! The only functions that put names and values into SQL text. `sql_mode` is empty in our sessions,
//! so there is one quoting rule for each.

/// Returns a name as a quoted identifier.
pub(crate) fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Returns a value as a string literal.
pub(crate) fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// Returns a pattern that matches only this name.
pub(crate) fn pattern(name: &str) -> String {
    name.chars()
        .flat_map(|letter| matches!(letter, '\\' | '_' | '%').then_some('\\').into_iter().chain([letter]))
        .collect()
}

/// Returns the name that a pattern of [`pattern`] matches.
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
    fn quoting_cannot_be_escaped() {
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
    fn patterns_match_one_name() {
        for (name, quoted) in [("a_b", r"a\_b"), ("100%", r"100\%"), (r"a\b", r"a\\b"), (r"\_", r"\\\_"), ("é", "é")]
        {
            assert_eq!(pattern(name), quoted);
            assert_eq!(from_pattern(quoted), name);
        }
    }
}
