//! Rules that reserve parameters for the service: a reason and name patterns.

/// Names that are reserved for one reason.
pub(crate) struct ReservedNames {
    pub(crate) reason: &'static str,
    /// A pattern contains at most one `*` within, or one at either or both ends.
    pub(crate) names: &'static [&'static str],
}

impl ReservedNames {
    /// Returns true if a parameter of this name is reserved.
    pub(crate) fn matches(&self, name: &str) -> bool {
        self.names.iter().any(|pattern| matches_pattern(pattern, name))
    }
}

/// Returns true if a name matches a pattern.
pub(crate) fn matches_pattern(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => name == pattern,
        Some(("", rest)) => match rest.strip_suffix('*') {
            Some(part) => name.contains(part),
            None => name.ends_with(rest),
        },
        Some((begin, end)) => name.len() >= begin.len() + end.len() && name.starts_with(begin) && name.ends_with(end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names() {
        for (pattern, name, fit) in [
            ("port", "port", true),
            ("port", "report", false),
            ("ssl_*", "ssl_key", true),
            ("ssl_*", "ssl", false),
            ("*_file", "pid_file", true),
            ("*preload*", "shared_preload_libraries", true),
            ("sync*_slots", "synchronized_standby_slots", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches_pattern(pattern, name), fit, "{pattern} {name}");
        }
    }
}
