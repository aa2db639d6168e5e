use std::path::Path;

use trove_core::{
    datastore::{Cx, Manifest},
    error::{Error, Result},
    model::{Flavor, Parameter},
};

use super::{config, manifest, migrate, parameters};
use crate::{
    container::{CONFIGURATION, Helper, bounded_read},
    mysql_family::{AdminConnector, MemoryBudget, ServerVersion, Variant, version_after},
};

/// The files in which current and older servers record their version.
const VERSION_FILES: [&str; 2] = ["mariadb_upgrade_info", "mysql_upgrade_info"];

/// The maximum length of a version in those files.
const MAX_VERSION_BYTES: u64 = 64;

/// MariaDB.
#[derive(Debug)]
pub struct MariaDbVariant;

impl Variant for MariaDbVariant {
    const NAME: &str = "MariaDB";
    const SERVER: &str = "mariadbd";
    const INDIVIDUAL_FILES: &[&str] = &[];
    const START_ONLY: &[&str] = &parameters::START_ONLY;
    const DEFAULTS: &[(&str, &str)] = &config::DEFAULTS;
    const FIXED: &[(&str, &str)] = &config::FIXED;

    fn manifest() -> Manifest {
        manifest()
    }

    fn server_mib(_flavor: &Flavor) -> u64 {
        config::SERVER_MIB
    }

    fn sized_settings(_flavor: &Flavor, budget: &MemoryBudget) -> Vec<(&'static str, String)> {
        config::sized_settings(budget)
    }

    fn init_sql() -> String {
        config::init_sql()
    }

    /// The redo log is small during initialization and grows at the first start.
    fn init_command(data: &str, init_file: &str) -> Vec<String> {
        let mut command = vec!["mariadb-install-db".to_owned(), format!("--defaults-file={CONFIGURATION}/my.cnf")];
        command.push(format!("--datadir={data}"));
        command.push(format!("--extra-file={init_file}"));
        let rest = ["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"];
        command.extend(rest.map(str::to_owned));
        command.extend(["--skip-log-bin", "--innodb-log-file-size=8M"].map(str::to_owned));
        command
    }

    fn printed_version(output: &str) -> bool {
        output.contains("MariaDB")
    }

    fn data_version(data: &Path) -> Result<String> {
        let files = VERSION_FILES.map(|name| bounded_read(&data.join(name), MAX_VERSION_BYTES).ok());
        let text = files.into_iter().flatten().find(|text| text.contains("MariaDB"));
        text.and_then(|text| version_after(&text, "")).ok_or_else(|| {
            Error::corrupt("the data directory is not a MariaDB data directory").with("path", data.display())
        })
    }

    fn can_upgrade(from: &ServerVersion, to: &ServerVersion) -> bool {
        (to.major, to.minor) > (from.major, from.minor)
    }

    async fn read_parameters(admin: &AdminConnector<Self>) -> Result<Vec<Parameter>> {
        parameters::read(admin).await
    }

    async fn migrate(admin: &AdminConnector<Self>, server_uid: u32, cx: &Cx, helper: &dyn Helper) -> Result<()> {
        migrate::run(admin, server_uid, cx, helper).await
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

    fn host(version: &str) -> GuestHost {
        let mut host = GuestHost::new("9b2c7e1a-6b1f-4c5e-9d3a-0f4f5f6a7b8c".parse().unwrap(), "/v", "/d");
        host.version = version.to_owned();
        host
    }

    fn engine() -> FamilyEngine<MariaDbVariant> {
        FamilyEngine::new(&host("11.8"))
    }

    #[test]
    fn versions_are_read_from_mariadb_binaries_only() {
        for (output, version) in [
            ("mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)", Some("10.11.19")),
            (
                "mariadbd  Ver 11.8.2-MariaDB-ubu2404 for debian-linux-gnu on x86_64 (mariadb.org binary distribution)",
                Some("11.8.2"),
            ),
            ("/usr/sbin/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))", None),
            ("", None),
        ] {
            assert_eq!(engine().read_version(output).as_deref(), version);
        }
    }

    #[test]
    fn upgrade_paths_are_within_a_series_or_to_a_later_one() {
        for (from, to, path) in [
            ("10.11.1", "10.11.9", Some(UpgradePath::Compatible)),
            ("11.8", "11.8.2", Some(UpgradePath::Compatible)),
            ("10.11.9", "11.8.2", Some(UpgradePath::Changing)),
            ("11.4.1", "11.8.2", Some(UpgradePath::Changing)),
            ("11.8.2", "11.4.1", None),
            ("11.8.2", "10.11.9", None),
            ("10.11.9", "", None),
        ] {
            assert_eq!(engine().upgrade_path(from, to).ok(), path, "{from} {to}");
        }
    }

    #[test]
    fn data_of_other_servers_and_later_versions_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let check = |version| engine().check_data(&host(version), directory.path()).map_err(|error| error.kind());
        assert_eq!(check("11.8"), Err(Kind::Corrupt));
        for (text, outcome) in [
            ("11.8.9-MariaDB", Ok(())),
            ("10.11.19-MariaDB\n", Ok(())),
            ("12.1.1-MariaDB", Err(Kind::Conflict)),
            ("9.7.4", Err(Kind::Corrupt)),
            ("MariaDB", Err(Kind::Corrupt)),
        ] {
            std::fs::write(directory.path().join("mysql_upgrade_info"), text).unwrap();
            assert_eq!(check("11.8"), outcome, "{text}");
        }
        std::fs::write(directory.path().join("mariadb_upgrade_info"), "11.8.9-MariaDB").unwrap();
        assert_eq!((check("11.8"), check("10.11")), (Ok(()), Err(Kind::Conflict)));
    }
}
