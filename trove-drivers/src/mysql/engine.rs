use std::path::Path;

use trove_core::{
    datastore::Manifest,
    error::{Error, Result},
    model::{Flavor, Parameter},
};

use super::{config, manifest, parameters};
use crate::{
    container::bounded_read,
    mysql_family::{AdminConnector, MemoryBudget, ServerVersion, Variant, server_command, version_after},
};

/// The maximum size of the server's upgrade history file.
const MAX_HISTORY_BYTES: u64 = 1 << 16;

/// MySQL.
#[derive(Debug)]
pub struct MySqlVariant;

impl Variant for MySqlVariant {
    const NAME: &str = "MySQL";
    const SERVER: &str = "mysqld";
    const INDIVIDUAL_FILES: &[&str] = &["auto.cnf", "*.pem"];
    const START_ONLY: &[&str] = &parameters::START_ONLY;
    const DEFAULTS: &[(&str, &str)] = &config::DEFAULTS;
    const FIXED: &[(&str, &str)] = &config::FIXED;

    fn manifest() -> Manifest {
        manifest()
    }

    fn server_mib(flavor: &Flavor) -> u64 {
        config::server_mib(flavor)
    }

    fn sized_settings(flavor: &Flavor, budget: &MemoryBudget) -> Vec<(&'static str, String)> {
        config::sized_settings(flavor, budget)
    }

    fn init_sql() -> String {
        config::init_sql()
    }

    /// The redo log is small during initialization and grows at the first start.
    fn init_command(data: &str, init_file: &str) -> Vec<String> {
        let mut command = server_command::<Self>(data);
        command.extend(["--initialize-insecure", "--super-read-only=OFF", "--read-only=OFF"].map(str::to_owned));
        command.extend(["--skip-log-bin", "--innodb-redo-log-capacity=8M"].map(str::to_owned));
        command.push(format!("--init-file={init_file}"));
        command
    }

    fn printed_version(output: &str) -> bool {
        !output.contains("MariaDB")
    }

    fn data_version(data: &Path) -> Result<String> {
        let path = data.join("mysql_upgrade_history");
        let history = bounded_read(&path, MAX_HISTORY_BYTES).map_err(|error| {
            Error::corrupt("the data directory is not a MySQL data directory")
                .with("path", path.display())
                .with_source(error)
        })?;
        // The last entry is the version that used the data last.
        let last = history.rsplit_once("\"version\"").and_then(|(_, rest)| version_after(rest, "\""));
        last.ok_or_else(|| {
            Error::corrupt("the data directory does not record its version").with("path", path.display())
        })
    }

    fn can_upgrade(from: &ServerVersion, to: &ServerVersion) -> bool {
        from.major == 9 && to.major == 9 && to.minor > from.minor
    }

    async fn read_parameters(admin: &AdminConnector<Self>) -> Result<Vec<Parameter>> {
        parameters::read(admin).await
    }
}

#[cfg(test)]
mod tests {
    use trove_core::{datastore::GuestHost, error::Kind};

    use super::*;
    use crate::{
        container::{Engine, UpgradePath},
        mysql_family::FamilyEngine,
    };

    fn host() -> GuestHost {
        let mut host = GuestHost::new("9b2c7e1a-6b1f-4c5e-9d3a-0f4f5f6a7b8c".parse().unwrap(), "/v", "/d");
        host.version = "9.7".to_owned();
        host
    }

    fn engine() -> FamilyEngine<MySqlVariant> {
        FamilyEngine::new(&host())
    }

    #[test]
    fn versions_are_read_from_mysql_binaries_only() {
        for (output, version) in [
            ("/usr/sbin/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))", Some("9.7.4")),
            ("/usr/sbin/mysqld  Ver 8.4.5 for Linux on x86_64 (MySQL Community Server - GPL)", Some("8.4.5")),
            ("mysqld  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)", None),
            ("postgres (PostgreSQL) 17.5", None),
            ("", None),
        ] {
            assert_eq!(engine().read_version(output).as_deref(), version);
        }
    }

    #[test]
    fn upgrade_paths_are_within_a_series_or_to_a_later_9() {
        for (from, to, path) in [
            ("8.4.1", "8.4.9", Some(UpgradePath::Compatible)),
            ("8.4.9", "8.4", Some(UpgradePath::Compatible)),
            ("9.7.4", "9.7.4", Some(UpgradePath::Compatible)),
            ("9.6.0", "9.7.1", Some(UpgradePath::Changing)),
            ("9.7.1", "9.6.0", None),
            ("8.4.9", "9.7.4", None),
            ("9.7.4", "8.4.9", None),
            ("9.7.4", "nine", None),
        ] {
            assert_eq!(engine().upgrade_path(from, to).ok(), path, "{from} {to}");
        }
    }

    #[test]
    fn data_of_other_servers_and_versions_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let check = || engine().check_data(&host(), directory.path()).map_err(|error| error.kind());
        assert_eq!(check(), Err(Kind::Corrupt));
        for (history, outcome) in [
            (r#"{"upgrade_history":[{"version":"9.7.4"}]}"#, Ok(())),
            (r#"{"upgrade_history":[{"version":"8.4.1"},{"version": "9.6.0"}]}"#, Ok(())),
            (r#"{"upgrade_history":[{"version":"9.6.0"},{"version":"9.8.0"}]}"#, Err(Kind::Conflict)),
            (r#"{"upgrade_history":[{"version":"8.4.1"}]}"#, Err(Kind::Conflict)),
            ("10.11.19-MariaDB", Err(Kind::Corrupt)),
            ("", Err(Kind::Corrupt)),
        ] {
            std::fs::write(directory.path().join("mysql_upgrade_history"), history).unwrap();
            assert_eq!(check(), outcome, "{history}");
        }
    }
}
