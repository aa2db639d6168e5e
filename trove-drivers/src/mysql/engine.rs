use std::path::Path;

use async_trait::async_trait;
use trove_core::{
    datastore::{Accounts, Cx, GuestHost, Manifest, Prepare},
    error::{Error, Result},
    model::{Flavor, Settings},
};

use super::{accounts::MySqlDialect, config, manifest};
use crate::{
    container::{Answer, CONFIGURATION, ConfigFile, Engine, Parameters, Template, UpgradePath, read_small},
    hash::short_hash,
    mysql_family::{FamilyAccounts, Release, VOLUME, check_settings, complaint, processes, version_after},
};

/// More than a server writes of its versions in years.
const HISTORY_BYTES: u64 = 1 << 16;

/// The server of one instance.
#[derive(Debug)]
pub struct MySqlEngine {
    pub(super) accounts: FamilyAccounts<MySqlDialect>,
}

#[async_trait]
impl Engine for MySqlEngine {
    fn manifest() -> Manifest {
        manifest()
    }

    fn check_settings(flavor: &Flavor, settings: &Settings) -> Result<()> {
        check_settings(flavor, config::server_mib(flavor), settings)
    }

    fn new(host: &GuestHost) -> Self {
        Self { accounts: FamilyAccounts::new(host.directory.join("run"), host.server.uid) }
    }

    fn volume_target(&self) -> &str {
        VOLUME
    }

    fn files(&self, host: &GuestHost, settings: &Settings) -> Vec<ConfigFile> {
        config::files(host, &format!("{VOLUME}/{}", self.data_directory()), settings)
    }

    /// The redo log is small while there is little to write, and grows when the server is first started.
    fn initialise(&self, host: &GuestHost, data: &str) -> Option<Vec<String>> {
        let mut command = self.serve(host, data);
        command.extend(["--initialize-insecure", "--super-read-only=OFF", "--read-only=OFF"].map(str::to_owned));
        command.extend(["--skip-log-bin", "--innodb-redo-log-capacity=8M"].map(str::to_owned));
        command.push(format!("--init-file={CONFIGURATION}/{}", config::INIT_SQL));
        Some(command)
    }

    fn template(&self) -> Option<Template> {
        let individual = ["auto.cnf", "*.pem"].map(str::to_owned).into();
        Some(Template { options: short_hash(config::init_sql().as_bytes()), individual })
    }

    fn serve(&self, _host: &GuestHost, data: &str) -> Vec<String> {
        vec!["mysqld".to_owned(), format!("--defaults-file={CONFIGURATION}/my.cnf"), format!("--datadir={data}")]
    }

    fn version_command(&self) -> Option<Vec<String>> {
        Some(["mysqld", "--version"].map(str::to_owned).into())
    }

    fn read_version(&self, output: &str) -> Option<String> {
        if output.contains("MariaDB") { None } else { version_after(output, "Ver ") }
    }

    fn check_data(&self, host: &GuestHost, data: &Path) -> Result<()> {
        let path = data.join("mysql_upgrade_history");
        let history = read_small(&path, HISTORY_BYTES).map_err(|error| {
            Error::corrupt("the data directory is not MySQL's").with("path", path.display()).because(error)
        })?;
        // The last entry is of the version that used it last.
        let last = history.rsplit_once("\"version\"").and_then(|(_, rest)| version_after(rest, "\""));
        let found = last.ok_or_else(|| {
            Error::corrupt("the data directory does not tell its version").with("path", path.display())
        })?;
        self.upgrade_path(&found, &host.version).map(drop).map_err(|error| {
            let wanted = &host.version;
            Error::conflict(format!("the data directory is MySQL {found}'s, not MySQL {wanted}'s")).because(error)
        })
    }

    fn processes(&self, host: &GuestHost) -> u32 {
        processes(&host.flavor)
    }

    async fn ask(&self) -> Answer {
        self.accounts.admin().ask().await
    }

    async fn open(&self) -> Result<()> {
        self.accounts.admin().open().await
    }

    async fn relieve(&self) -> Result<()> {
        self.accounts.admin().purge_logs().await
    }

    fn complaint(&self, output: &str) -> Option<String> {
        complaint(output)
    }

    fn forget(&self) {
        self.accounts.admin().forget();
    }

    async fn provision(&self, cx: &Cx, spec: &Prepare) -> Result<()> {
        self.accounts.provision(cx, spec).await
    }

    fn accounts(&self) -> Option<&dyn Accounts> {
        Some(&self.accounts)
    }

    fn parameters(&self) -> Option<&dyn Parameters> {
        Some(self)
    }

    fn upgrade_path(&self, from: &str, to: &str) -> Result<UpgradePath> {
        let (old, new) = (Release::parse("MySQL", from)?, Release::parse("MySQL", to)?);
        if old.same_series(&new) {
            return Ok(UpgradePath::Compatible);
        }
        match old.major == 9 && new.major == 9 && new.minor > old.minor {
            true => Ok(UpgradePath::Changing),
            false => Err(Error::unsupported(format!("MySQL {from} cannot become MySQL {to} on the same data"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine() -> MySqlEngine {
        MySqlEngine::new(&GuestHost::new("9b2c7e1a-6b1f-4c5e-9d3a-0f4f5f6a7b8c".parse().unwrap(), "/v", "/d"))
    }

    #[test]
    fn its_programs_are_told_from_others() {
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
    fn releases_follow_each_other() {
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
    fn only_its_own_data_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let mut host = GuestHost::new("9b2c7e1a-6b1f-4c5e-9d3a-0f4f5f6a7b8c".parse().unwrap(), "/v", "/d");
        host.version = "9.7".to_owned();
        let check = || engine().check_data(&host, directory.path()).map_err(|error| error.kind());
        assert_eq!(check(), Err(trove_core::error::Kind::Corrupt));
        for (history, outcome) in [
            (r#"{"upgrade_history":[{"version":"9.7.4"}]}"#, Ok(())),
            (r#"{"upgrade_history":[{"version":"8.4.1"},{"version": "9.6.0"}]}"#, Ok(())),
            (
                r#"{"upgrade_history":[{"version":"9.6.0"},{"version":"9.8.0"}]}"#,
                Err(trove_core::error::Kind::Conflict),
            ),
            (r#"{"upgrade_history":[{"version":"8.4.1"}]}"#, Err(trove_core::error::Kind::Conflict)),
            ("10.11.19-MariaDB", Err(trove_core::error::Kind::Corrupt)),
            ("", Err(trove_core::error::Kind::Corrupt)),
        ] {
            std::fs::write(directory.path().join("mysql_upgrade_history"), history).unwrap();
            assert_eq!(check(), outcome, "{history}");
        }
    }
}
