//! ReservedNamess by which parameters are the service's own: a reason, and whom it concerns.

/// Why the parameters of these names cannot be set.
pub(crate) struct ReservedNames {
    pub(crate) reason: &'static str,
    /// `*` stands for anything: at an end, at both, or once within.
    pub(crate) names: &'static [&'static str],
}

impl ReservedNames {
    /// True where the rule is about a parameter of this name.
    pub(crate) fn matches(&self, name: &str) -> bool {
        self.names.iter().any(|pattern| matches_pattern(pattern, name))
    }
}

/// True where a name is of a pattern.
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
    fn patterns_fit_what_they_say() {
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
