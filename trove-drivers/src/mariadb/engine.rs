use std::path::Path;

use async_trait::async_trait;
use trove_core::{
    datastore::{Accounts, Cx, GuestHost, Manifest, Prepare},
    error::{Error, Result},
    model::{Flavor, Settings},
};

use super::{accounts::MariaDbDialect, config, manifest, migrate};
use crate::{
    container::{Answer, CONFIGURATION, ConfigFile, Engine, Helper, Parameters, Template, UpgradePath, read_small},
    hash::short_hash,
    mysql_family::{FamilyAccounts, Release, VOLUME, check_settings, complaint, processes, version_after},
};

/// The files in which the server notes its version, by its age. More than a version has is not read of them.
const VERSION_FILES: [&str; 2] = ["mariadb_upgrade_info", "mysql_upgrade_info"];
const VERSION_BYTES: u64 = 64;

/// The server of one instance.
#[derive(Debug)]
pub struct MariaDbEngine {
    pub(super) accounts: FamilyAccounts<MariaDbDialect>,
    /// The user that the server runs as.
    server: u32,
}

#[async_trait]
impl Engine for MariaDbEngine {
    fn manifest() -> Manifest {
        manifest()
    }

    fn check_settings(flavor: &Flavor, settings: &Settings) -> Result<()> {
        check_settings(flavor, config::server_mib(flavor), settings)
    }

    fn new(host: &GuestHost) -> Self {
        let server = host.server.uid;
        Self { accounts: FamilyAccounts::new(host.directory.join("run"), server), server }
    }

    fn volume_target(&self) -> &str {
        VOLUME
    }

    fn files(&self, host: &GuestHost, settings: &Settings) -> Vec<ConfigFile> {
        config::files(host, &format!("{VOLUME}/{}", self.data_directory()), settings)
    }

    /// The redo log is small while there is little to write, and grows when the server is first started.
    fn initialise(&self, _host: &GuestHost, data: &str) -> Option<Vec<String>> {
        let mut command = vec!["mariadb-install-db".to_owned(), format!("--defaults-file={CONFIGURATION}/my.cnf")];
        command.push(format!("--datadir={data}"));
        command.push(format!("--extra-file={CONFIGURATION}/{}", config::INIT_SQL));
        let rest = ["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"];
        command.extend(rest.map(str::to_owned));
        command.extend(["--skip-log-bin", "--innodb-log-file-size=8M"].map(str::to_owned));
        Some(command)
    }

    fn template(&self) -> Option<Template> {
        Some(Template { options: short_hash(config::init_sql().as_bytes()), individual: Vec::new() })
    }

    fn serve(&self, _host: &GuestHost, _data: &str) -> Vec<String> {
        vec!["mariadbd".to_owned(), format!("--defaults-file={CONFIGURATION}/my.cnf")]
    }

    fn version_command(&self) -> Option<Vec<String>> {
        Some(["mariadbd", "--version"].map(str::to_owned).into())
    }

    fn read_version(&self, output: &str) -> Option<String> {
        if output.contains("MariaDB") { version_after(output, "Ver ") } else { None }
    }

    fn check_data(&self, host: &GuestHost, data: &Path) -> Result<()> {
        let files = VERSION_FILES.map(|name| read_small(&data.join(name), VERSION_BYTES).ok());
        let note = files.into_iter().flatten().find(|text| text.contains("MariaDB"));
        let found = note
            .and_then(|text| version_after(&text, ""))
            .ok_or_else(|| Error::corrupt("the data directory is not MariaDB's").with("path", data.display()))?;
        self.upgrade_path(&found, &host.version).map(drop).map_err(|error| {
            let wanted = &host.version;
            Error::conflict(format!("the data directory is MariaDB {found}'s, not MariaDB {wanted}'s")).because(error)
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
        let (old, new) = (Release::parse("MariaDB", from)?, Release::parse("MariaDB", to)?);
        if old.same_series(&new) {
            return Ok(UpgradePath::Compatible);
        }
        match (new.major, new.minor) > (old.major, old.minor) {
            true => Ok(UpgradePath::Changing),
            false => Err(Error::unsupported(format!("MariaDB {from} cannot become MariaDB {to} on the same data"))),
        }
    }

    async fn migrate(&self, cx: &Cx, helper: &dyn Helper) -> Result<()> {
        migrate::run(self.accounts.admin(), self.server, cx, helper).await
    }
}

#[cfg(test)]
mod tests {
    use trove_core::error::Kind;

    use super::*;

    fn host(version: &str) -> GuestHost {
        let mut host = GuestHost::new("9b2c7e1a-6b1f-4c5e-9d3a-0f4f5f6a7b8c".parse().unwrap(), "/v", "/d");
        host.version = version.to_owned();
        host
    }

    #[test]
    fn its_programs_are_told_from_others() {
        for (output, version) in [
            ("mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)", Some("10.11.19")),
            (
                "mariadbd  Ver 11.8.2-MariaDB-ubu2404 for debian-linux-gnu on x86_64 (mariadb.org binary distribution)",
                Some("11.8.2"),
            ),
            ("/usr/sbin/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))", None),
            ("", None),
        ] {
            assert_eq!(MariaDbEngine::new(&host("11.8")).read_version(output).as_deref(), version);
        }
    }

    #[test]
    fn releases_follow_each_other() {
        for (from, to, path) in [
            ("10.11.1", "10.11.9", Some(UpgradePath::Compatible)),
            ("11.8", "11.8.2", Some(UpgradePath::Compatible)),
            ("10.11.9", "11.8.2", Some(UpgradePath::Changing)),
            ("11.4.1", "11.8.2", Some(UpgradePath::Changing)),
            ("11.8.2", "11.4.1", None),
            ("11.8.2", "10.11.9", None),
            ("10.11.9", "", None),
        ] {
            assert_eq!(MariaDbEngine::new(&host("11.8")).upgrade_path(from, to).ok(), path, "{from} {to}");
        }
    }

    #[test]
    fn only_its_own_data_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let check = |version| {
            let host = host(version);
            MariaDbEngine::new(&host).check_data(&host, directory.path()).map_err(|error| error.kind())
        };
        assert_eq!(check("11.8"), Err(Kind::Corrupt));
        for (note, outcome) in [
            ("11.8.9-MariaDB", Ok(())),
            ("10.11.19-MariaDB\n", Ok(())),
            ("12.1.1-MariaDB", Err(Kind::Conflict)),
            ("9.7.4", Err(Kind::Corrupt)),
            ("MariaDB", Err(Kind::Corrupt)),
        ] {
            std::fs::write(directory.path().join("mysql_upgrade_info"), note).unwrap();
            assert_eq!(check("11.8"), outcome, "{note}");
        }
        std::fs::write(directory.path().join("mariadb_upgrade_info"), "11.8.9-MariaDB").unwrap();
        assert_eq!((check("11.8"), check("10.11")), (Ok(()), Err(Kind::Conflict)));
    }
}
