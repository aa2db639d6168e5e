use std::{io, path::Path, sync::Arc};

use async_trait::async_trait;
use trove_core::{
    datastore::{Accounts, Cx, GuestHost, Manifest, Prepare},
    error::{Error, Result},
    model::{Flavor, Settings},
};

use super::{
    ADMIN, accounts::PostgreSqlAccounts, config, connection::AdminConnector, limits::Limits, manifest,
    parameters::PostgreSqlParameters, startup_error::startup_error, version::MajorVersion,
};
use crate::container::{CONFIGURATION, ConfigFile, Engine, Parameters, Readiness, UpgradePath, bounded_read};

const DATA: &str = "pgdata";

/// Longer than any version.
const VERSION_BYTES: u64 = 16;

/// Prints the version of any server in an image; the expected one is in `PATH` already.
const PRINT_VERSION: &str = "for bin in /usr/lib/postgresql/*/bin; do PATH=$PATH:$bin; done; exec postgres --version";

/// The server of one instance.
#[derive(Debug)]
pub struct PostgreSqlEngine {
    major: MajorVersion,
    admin: Arc<AdminConnector>,
    accounts: PostgreSqlAccounts,
    parameters: PostgreSqlParameters,
}

#[async_trait]
impl Engine for PostgreSqlEngine {
    fn manifest() -> Manifest {
        manifest()
    }

    fn check_settings(flavor: &Flavor, settings: &Settings) -> Result<()> {
        Limits::new(flavor).check(settings)
    }

    fn new(host: &GuestHost) -> Self {
        let major = MajorVersion::of(&host.version);
        let admin = Arc::new(AdminConnector::new(host.directory.join("run"), host.server.uid, major));
        Self {
            major,
            accounts: PostgreSqlAccounts::new(Arc::clone(&admin)),
            parameters: PostgreSqlParameters::new(Arc::clone(&admin)),
            admin,
        }
    }

    fn volume_target(&self) -> &str {
        self.major.volume_target()
    }

    fn data_directory(&self) -> &str {
        DATA
    }

    fn files(&self, host: &GuestHost, settings: &Settings) -> Vec<ConfigFile> {
        config::files(host, &format!("{}/{DATA}", self.volume_target()), self.major, settings)
    }

    fn init_command(&self, _host: &GuestHost, data: &str) -> Option<Vec<String>> {
        let provider = if self.major.has_builtin_locales() { "builtin" } else { "libc" };
        let command = [
            "initdb",
            "--pgdata",
            data,
            "--username",
            ADMIN,
            "--auth=reject",
            "--encoding=UTF8",
            "--locale-provider",
            provider,
            "--locale=C.UTF-8",
            "--data-checksums",
            "--no-instructions",
        ];
        Some(command.map(str::to_owned).into())
    }

    fn server_command(&self, _host: &GuestHost, _data: &str) -> Vec<String> {
        vec!["postgres".to_owned(), "-c".to_owned(), format!("config_file={CONFIGURATION}/postgresql.conf")]
    }

    fn environment(&self, _host: &GuestHost) -> Vec<String> {
        vec![
            format!(
                "PATH=/usr/lib/postgresql/{}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                self.major
            ),
            "LANG=C.UTF-8".to_owned(),
            // If memory runs out, the kernel should kill a session, after which the server recovers
            // by itself.
            "PG_OOM_ADJUST_FILE=/proc/self/oom_score_adj".to_owned(),
            "PG_OOM_ADJUST_VALUE=500".to_owned(),
        ]
    }

    fn version_command(&self) -> Option<Vec<String>> {
        Some(["sh", "-c", PRINT_VERSION].map(str::to_owned).into())
    }

    fn read_version(&self, output: &str) -> Option<String> {
        parse_version(output)
    }

    fn check_data(&self, _host: &GuestHost, data: &Path) -> Result<()> {
        let path = data.join("PG_VERSION");
        let found = read_version_file(&path).map_err(|error| {
            Error::corrupt("the data directory is not a PostgreSQL data directory")
                .with("path", path.display())
                .with_source(error)
        })?;
        let wanted = self.major;
        if found == wanted.to_string() {
            return Ok(());
        }
        Err(Error::conflict(format!("the data directory belongs to PostgreSQL {found}, not PostgreSQL {wanted}")))
    }

    /// The fast shutdown: sessions are ended and uncommitted transactions rolled back.
    fn stop_signal(&self) -> &str {
        "SIGINT"
    }

    fn max_processes(&self, host: &GuestHost) -> u32 {
        Limits::new(&host.flavor).processes()
    }

    async fn probe(&self) -> Readiness {
        self.admin.probe().await
    }

    fn startup_error(&self, output: &str) -> Option<String> {
        startup_error(output)
    }

    fn disconnect(&self) {
        self.admin.disconnect();
    }

    async fn provision(&self, cx: &Cx, spec: &Prepare) -> Result<()> {
        self.accounts.provision(cx, spec).await
    }

    fn accounts(&self) -> Option<&dyn Accounts> {
        Some(&self.accounts)
    }

    fn parameters(&self) -> Option<&dyn Parameters> {
        Some(&self.parameters)
    }

    /// Minor versions of one major version share the data, in both directions.
    fn upgrade_path(&self, from: &str, to: &str) -> Result<UpgradePath> {
        MajorVersion::of(from).upgrade_path(MajorVersion::of(to))
    }
}

/// Returns the number in `postgres (PostgreSQL) 17.5 (Debian 17.5-1)`.
fn parse_version(output: &str) -> Option<String> {
    let number = output.trim_start().strip_prefix("postgres (PostgreSQL) ")?.split_whitespace().next()?;
    let is_number = number.split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    is_number.then(|| number.to_owned())
}

/// Reads the version file.
fn read_version_file(path: &Path) -> io::Result<String> {
    let text = bounded_read(path, VERSION_BYTES)?;
    let version = text.trim();
    let is_version = !version.is_empty() && version.chars().all(|letter| letter.is_ascii_digit() || letter == '.');
    // It is shown to the user, so it must not be anything else.
    is_version.then(|| version.to_owned()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_parsed_from_postgres_output() {
        for (output, version) in [
            ("postgres (PostgreSQL) 17.12 (Debian 17.12-0+deb13u1)\n", Some("17.12")),
            ("postgres (PostgreSQL) 18.1\n", Some("18.1")),
            ("postgres (PostgreSQL) 19beta1", None),
            ("postgres (PostgreSQL) \n", None),
            ("mysqld  Ver 9.7.4", None),
        ] {
            assert_eq!(parse_version(output).as_deref(), version, "{output:?}");
        }
    }

    #[test]
    fn version_files_must_contain_a_version() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("PG_VERSION");
        for (text, version) in [
            ("17\n", Some("17")),
            ("9.6", Some("9.6")),
            ("", None),
            ("\n", None),
            ("17\u{1b}[2J", None),
            ("call 555-1234", None),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read_version_file(&path).ok().as_deref(), version, "{text:?}");
        }
    }
}
