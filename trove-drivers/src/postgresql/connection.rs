//! The administrator's sessions over the server's socket.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_postgres::{
    Client, Config, NoTls, Row, SimpleQueryMessage,
    error::SqlState,
    types::{FromSql, Type},
};
use trove_core::error::{Effect, Error, Result};

use super::{ADMIN, PORT, byte_limited_stream::ByteLimitedStream, version::MajorVersion};
use crate::container::{
    self, ConnectError, ConnectErrorReason, ProbeSession, Readiness, ReadinessProbe, wait_for_earlier_change,
};

/// How long it may take to connect.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// The maximum number of open sessions besides the readiness probe's: fewer than the server
/// reserves for the administrator.
const MAX_SESSIONS: usize = 3;

/// The maximum number of bytes read from the server in the readiness probe's session.
const PROBE_BUDGET: usize = 1 << 20;

/// The maximum number of bytes read from the server in any other session.
const BUDGET: usize = 16 << 20;

/// The application names of sessions, which tell the readiness probe's from those that change
/// something.
const NAME: &str = "trove";
const PROBE_NAME: &str = "trove probe";

/// Options that override the settings of a database: names refer to the system catalogs, statements
/// are neither logged nor shown, and nothing waits forever. Options at the start of a session take
/// precedence over those of a database.
const OPTIONS: &str = "-c search_path=pg_catalog -c standard_conforming_strings=on -c track_activities=off \
    -c statement_timeout=60s -c lock_timeout=10s -c default_transaction_read_only=off \
    -c default_transaction_isolation=read\\ committed -c log_statement=none -c log_min_duration_statement=-1 \
    -c log_min_error_statement=panic -c local_preload_libraries= -c exit_on_error=off \
    -c idle_session_timeout=0 -c idle_in_transaction_session_timeout=0";

/// Further options that only some versions accept.
const TRANSACTION_OPTIONS: &str = " -c transaction_timeout=0";

/// Opens administrator sessions with one server.
#[derive(Debug)]
pub(super) struct AdminConnector {
    sockets: PathBuf,
    /// The host user that the server runs as.
    server_uid: u32,
    major: MajorVersion,
    permits: Arc<Semaphore>,
    probe: ReadinessProbe<AdminSession>,
}

/// One session, closed when it is dropped.
#[derive(Debug)]
pub(super) struct AdminSession {
    pub(super) client: Client,
    pub(super) major: MajorVersion,
    io: JoinHandle<()>,
    permit: Option<OwnedSemaphorePermit>,
}

impl AdminConnector {
    /// Returns a connector for the server that runs as this user and has its sockets in this
    /// directory of the host.
    pub(super) fn new(sockets: PathBuf, server_uid: u32, major: MajorVersion) -> Self {
        Self {
            sockets,
            server_uid,
            major,
            permits: Arc::new(Semaphore::new(MAX_SESSIONS)),
            probe: ReadinessProbe::new(),
        }
    }

    /// Opens a session with a database. Tenants cannot change the database `postgres`.
    pub(super) async fn session(&self, database: &str) -> Result<AdminSession> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|error| Error::internal("the session pool is closed").with_source(error))?;
        let connected = timeout(CONNECT_LIMIT, self.connect(database, NAME, BUDGET)).await;
        let late = |_| Err(Error::unavailable("the database server does not answer in time").into());
        let mut session = connected.unwrap_or_else(late)?;
        session.permit = Some(permit);
        Ok(session)
    }

    /// Opens a session that may change accounts, once all earlier sessions have ended.
    pub(super) async fn change_session(&self) -> Result<AdminSession> {
        let (session, since) = (self.session("postgres").await?, Instant::now());
        while session.has_predecessor().await? {
            wait_for_earlier_change(since).await?;
        }
        Ok(session)
    }

    /// Probes whether the server answers, and its version.
    pub(super) async fn probe(&self) -> Readiness {
        self.probe.probe(self.connect("postgres", PROBE_NAME, PROBE_BUDGET)).await
    }

    /// Closes the readiness probe's session.
    pub(super) fn disconnect(&self) {
        self.probe.disconnect();
    }

    async fn connect(&self, database: &str, name: &str, budget: usize) -> Result<AdminSession, ConnectError> {
        let stream = container::connect(&self.sockets, &format!(".s.PGSQL.{PORT}"), self.server_uid)
            .await
            .map_err(|error| Error::unavailable("the database server does not answer").with_source(error))?;
        let mut config = Config::new();
        let more = if self.major.limits_transactions() { TRANSACTION_OPTIONS } else { "" };
        config.user(ADMIN).dbname(database).application_name(name).options(format!("{OPTIONS}{more}"));
        let connected = config.connect_raw(ByteLimitedStream::new(stream, budget), NoTls).await;
        let (client, connection) = connected.map_err(refused)?;
        let io = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a session with a database server failed");
            }
        });
        let session = AdminSession { client, major: self.major, io, permit: None };
        // The owner of a database may have set a role for every session in it.
        session.run("SET ROLE NONE").await?;
        Ok(session)
    }
}

impl AdminSession {
    /// Runs statements that return no rows.
    pub(super) async fn run(&self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).await.map_err(translate)
    }

    /// Returns true if the administrator has an older session besides the readiness probe's.
    async fn has_predecessor(&self) -> Result<bool> {
        let sql = "SELECT FROM pg_stat_activity former JOIN pg_stat_activity own ON own.pid = pg_backend_pid() \
            WHERE former.usename = own.usename AND former.application_name = $1 \
            AND (former.backend_start, former.pid) < (own.backend_start, own.pid)";
        Ok(!self.client.query(sql, &[&NAME]).await.map_err(translate)?.is_empty())
    }

    async fn version(&self) -> Result<String> {
        let answer = self.client.simple_query("SELECT current_setting('server_version')").await.map_err(translate)?;
        let version = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        // In "17.5 (Debian 17.5-1)" only the first part is the server's version.
        let version = version.and_then(|version| version.split_whitespace().next());
        version.map(str::to_owned).ok_or_else(|| Error::internal("the database server returned no version"))
    }
}

impl ProbeSession for AdminSession {
    async fn readiness(&mut self) -> Result<Readiness> {
        Ok(Readiness::Ready { version: self.version().await? })
    }
}

impl Drop for AdminSession {
    fn drop(&mut self) {
        // The server ends the session when the socket is closed; nothing has to be awaited.
        self.io.abort();
        drop(self.permit.take());
    }
}

/// A text of the system catalogs. Invalid UTF-8 is replaced: such a name was created by the
/// tenant's root from a database of another character set, and cannot be addressed.
#[derive(Debug)]
pub(super) struct LossyText(pub(super) String);

impl<'a> FromSql<'a> for LossyText {
    fn from_sql(_: &Type, raw: &'a [u8]) -> std::result::Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(String::from_utf8_lossy(raw).into_owned()))
    }

    fn accepts(of: &Type) -> bool {
        <&str as FromSql<'_>>::accepts(of)
    }
}

/// Returns the texts in the first column that can be addressed.
pub(super) fn addressable(rows: &[Row]) -> Vec<String> {
    let texts = rows.iter().map(|row| row.get::<_, LossyText>(0).0);
    texts.filter(|text| !text.contains(char::REPLACEMENT_CHARACTER)).collect()
}

/// Classifies a refused connection.
fn refused(error: tokio_postgres::Error) -> ConnectError {
    let reason = match error.code() {
        Some(&SqlState::CANNOT_CONNECT_NOW) => ConnectErrorReason::NotReady,
        Some(&SqlState::TOO_MANY_CONNECTIONS) => ConnectErrorReason::TooManyConnections,
        _ => ConnectErrorReason::Other,
    };
    ConnectError { reason, error: translate(error) }
}

/// Converts the server's error. Its own message is only in the source, for the operator.
pub(super) fn translate(error: tokio_postgres::Error) -> Error {
    let Some(code) = error.code().cloned() else {
        let found = Error::unavailable("the connection to the database server failed").with_effect(Effect::Unknown);
        return found.with_source(error);
    };
    let found = match code {
        SqlState::CANNOT_CONNECT_NOW | SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN => {
            Error::unavailable("the database server is starting or stopping")
        }
        SqlState::TOO_MANY_CONNECTIONS => Error::unavailable("the database server has no connection left"),
        SqlState::DISK_FULL => Error::no_space("the volume of the database server is full"),
        SqlState::OUT_OF_MEMORY => Error::unavailable("the database server has no memory left"),
        SqlState::QUERY_CANCELED => Error::timeout("the database server took too long"),
        SqlState::LOCK_NOT_AVAILABLE | SqlState::OBJECT_IN_USE | SqlState::T_R_DEADLOCK_DETECTED => {
            Error::busy("another session of the database server holds a lock")
        }
        SqlState::READ_ONLY_SQL_TRANSACTION => Error::conflict("the database server is read-only"),
        SqlState::DUPLICATE_OBJECT | SqlState::DUPLICATE_DATABASE => Error::conflict("the name is taken"),
        SqlState::UNDEFINED_OBJECT | SqlState::INVALID_CATALOG_NAME => Error::not_found("the object does not exist"),
        SqlState::DEPENDENT_OBJECTS_STILL_EXIST => Error::conflict("other objects depend on it"),
        _ => Error::internal("the database server refused a statement"),
    };
    found.with("sqlstate", code.code()).with_source(error)
}
