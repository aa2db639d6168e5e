/// Returns the first error in the output of a failed server, without the prefix of the line.
pub(crate) fn startup_error(output: &str) -> Option<String> {
    let errors = output.lines().filter_map(|line| line.split_once("[ERROR] ")).map(|(_, error)| {
        // "[MY-000077] [Server] /usr/sbin/mysqld: Error while setting value ..."
        let error = error.rsplit_once("[Server] ").map_or(error, |(_, error)| error);
        let program = |first: &str| first.ends_with("mysqld") || first.ends_with("mariadbd");
        error.split_once(": ").filter(|(first, _)| program(first)).map_or(error, |(_, error)| error).trim()
    });
    // "Aborting" says nothing.
    errors.filter(|error| !error.is_empty() && *error != "Aborting").map(str::to_owned).next()
}

#[cfg(test)]
mod tests {
    use super::startup_error;

    #[test]
    fn first_error_is_returned() {
        let mysql = "2026-01-01T00:00:00.1Z 0 [System] [MY-015015] [Server] MySQL Server - start.\n\
            2026-01-01T00:00:00.2Z 0 [ERROR] [MY-000077] [Server] /usr/sbin/mysqld: Error while setting value 'x' to 'y'.\n\
            2026-01-01T00:00:00.3Z 0 [ERROR] [MY-010119] [Server] Aborting\n";
        assert_eq!(startup_error(mysql).as_deref(), Some("Error while setting value 'x' to 'y'."));
        let mariadb = "2026-01-01  0:00:00 0 [Note] Starting\n\
            2026-01-01  0:00:00 0 [ERROR] mariadbd: Error while setting value 'nope' to 'sql_mode'\n";
        assert_eq!(startup_error(mariadb).as_deref(), Some("Error while setting value 'nope' to 'sql_mode'"));
        assert_eq!(startup_error("0 [ERROR] Aborting\n"), None);
        assert_eq!(startup_error(""), None);
    }
}
