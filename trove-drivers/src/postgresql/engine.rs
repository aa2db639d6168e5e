use std::{io, path::Path};

use async_trait::async_trait;
use trove_core::{
    datastore::{Accounts, Cx, GuestHost, Prepare},
    error::{Error, Result},
    model::Settings,
};

use super::{
    ADMIN, NAME, PORT,
    accounts::PostgreSqlAccounts,
    config::{self, Derived},
};
use crate::container::{Answer, CONFIGURATION, ConfigFile, Engine, read_small};

const VOLUME: &str = "/var/lib/postgresql/data";
const DATA: &str = "pgdata";

/// More than any version has.
const VERSION_BYTES: u64 = 16;

/// The server of one instance.
#[derive(Debug)]
pub(super) struct PostgreSqlEngine {
    accounts: PostgreSqlAccounts,
}

impl PostgreSqlEngine {
    pub(super) fn new(host: &GuestHost) -> Self {
        Self { accounts: PostgreSqlAccounts::new(host.directory.join("run"), host.server.uid) }
    }
}

#[async_trait]
impl Engine for PostgreSqlEngine {
    fn name(&self) -> &str {
        NAME
    }

    fn at(&self, host: &GuestHost) -> Self {
        Self::new(host)
    }

    fn volume_target(&self) -> &str {
        VOLUME
    }

    fn data_directory(&self) -> &str {
        DATA
    }

    fn port(&self) -> u16 {
        PORT
    }

    fn files(&self, host: &GuestHost, _settings: &Settings) -> Vec<ConfigFile> {
        config::files(host, &format!("{VOLUME}/{DATA}"), &Derived::new(&host.flavor, host.volume_size))
    }

    fn initialise(&self, _host: &GuestHost, data: &str) -> Option<Vec<String>> {
        let command = [
            "initdb",
            "--pgdata",
            data,
            "--username",
            ADMIN,
            "--auth=reject",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--locale=C.UTF-8",
            "--data-checksums",
            "--no-instructions",
        ];
        Some(command.map(str::to_owned).into())
    }

    fn serve(&self, _host: &GuestHost, _data: &str) -> Vec<String> {
        vec!["postgres".to_owned(), "-c".to_owned(), format!("config_file={CONFIGURATION}/postgresql.conf")]
    }

    fn environment(&self, host: &GuestHost) -> Vec<String> {
        vec![
            format!(
                "PATH=/usr/lib/postgresql/{}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                host.version.split('.').next().unwrap_or_default()
            ),
            "LANG=C.UTF-8".to_owned(),
            // Where memory runs out the kernel is to choose a session, after which the server recovers by itself.
            "PG_OOM_ADJUST_FILE=/proc/self/oom_score_adj".to_owned(),
            "PG_OOM_ADJUST_VALUE=500".to_owned(),
        ]
    }

    fn check_data(&self, host: &GuestHost, data: &Path) -> Result<()> {
        let path = data.join("PG_VERSION");
        let found = read_version(&path).map_err(|error| {
            Error::corrupt("the data directory is not PostgreSQL's").with("path", path.display()).because(error)
        })?;
        let wanted = &host.version;
        if found == *wanted {
            return Ok(());
        }
        Err(Error::conflict(format!("the data directory is PostgreSQL {found}'s, not PostgreSQL {wanted}'s")))
    }

    /// The fast shutdown: sessions are ended, what they had not committed is rolled back.
    fn stop_signal(&self) -> &str {
        "SIGINT"
    }

    fn processes(&self, host: &GuestHost) -> u32 {
        Derived::new(&host.flavor, host.volume_size).processes()
    }

    async fn ask(&self) -> Answer {
        self.accounts.admin().ask().await
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
}

/// The few letters of the file.
fn read_version(path: &Path) -> io::Result<String> {
    let text = read_small(path, VERSION_BYTES)?;
    let version = text.trim();
    let is_version = !version.is_empty() && version.chars().all(|letter| letter.is_ascii_digit() || letter == '.');
    // It is told to the user and so must be nothing else.
    is_version.then(|| version.to_owned()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_version_is_taken_for_one() {
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
            assert_eq!(read_version(&path).ok().as_deref(), version, "{text:?}");
        }
    }
}
