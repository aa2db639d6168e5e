/// Returns the error in the output of a failed server, without the prefix of the line.
pub(super) fn startup_error(output: &str) -> Option<String> {
    let said = |severity: &str, about: &str| {
        let messages = output.lines().filter_map(|line| line.split_once(severity)).map(|(_, text)| text.trim());
        messages.filter(|text| text.contains(about)).map(str::to_owned).next()
    };
    match said("FATAL:", "") {
        // Each error is logged before.
        Some(fatal) if fatal.contains("contains errors") => said("LOG:", "parameter").or(Some(fatal)),
        fatal => fatal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_settings_are_reported() {
        let file = "2026-01-01 00:00:00.1 GMT [7] LOG:  invalid value for parameter \"work_mem\": \"x\"\n\
            2026-01-01 00:00:00.2 GMT [7] FATAL:  configuration file \"/etc/trove/conf.d/50.conf\" contains errors\n";
        assert_eq!(startup_error(file).as_deref(), Some("invalid value for parameter \"work_mem\": \"x\""));
        let memory = "GMT [1] FATAL:  could not map anonymous shared memory: Cannot allocate memory\n\
            GMT [1] HINT:  This error usually means that ...\n";
        assert_eq!(
            startup_error(memory).as_deref(),
            Some("could not map anonymous shared memory: Cannot allocate memory")
        );
        assert_eq!(startup_error("GMT [1] LOG:  database system is shut down\n"), None);
    }
}
