//! The administrator's sessions over the server's socket.

use std::{future::Future, io, marker::PhantomData, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout},
};
use trove_core::error::{Error, Result};

use super::{
    Dialect, SOCKET,
    client::{Client, Row},
    server_error::{ServerError, TOO_MANY_CONNECTIONS},
};
use crate::container::{
    self, AGENT, ConnectError, ConnectErrorReason, ProbeSession, Readiness, ReadinessProbe, wait_for_earlier_change,
};

/// How long it may take to connect.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// How long one statement may take.
const STATEMENT_LIMIT: Duration = Duration::from_secs(60);

/// The maximum number of open sessions besides the readiness probe's: the server reserves one connection for the
/// administrator.
const MAX_SESSIONS: usize = 1;

/// How often, and after which delay, a connection is retried that the server refused because of its connection limit.
const CONNECT_RETRIES: usize = 10;
const CONNECT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// The maximum number of bytes read from the server in the readiness probe's session.
const PROBE_BUDGET: usize = 1 << 16;

/// The maximum number of bytes read from the server in any other session.
const BUDGET: usize = 16 << 20;

/// The default database of the readiness probe's session, which distinguishes it from sessions that change something.
const PROBE_DATABASE: &str = "information_schema";

/// Session variables that override the server's configuration: one quoting rule, no endless waits, no truncated results,
/// nothing in a log.
const OPTIONS: &str = "SET SESSION sql_mode = '', autocommit = 1, completion_type = 0, lock_wait_timeout = 10, \
    innodb_lock_wait_timeout = 10, sql_select_limit = 18446744073709551615, sql_log_off = 1, sql_safe_updates = 0, \
    sql_big_selects = 1, max_sort_length = 1024";

/// Opens administrator sessions with one server.
#[derive(Debug)]
pub(crate) struct AdminConnector<D> {
    socket_directory: PathBuf,
    /// The host user that the server runs as.
    server_uid: u32,
    permits: Arc<Semaphore>,
    probe: ReadinessProbe<MySqlProbeSession<D>>,
}

/// One session, closed when it is dropped.
#[derive(Debug)]
pub(crate) struct AdminSession {
    client: Client,
    permit: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
struct MySqlProbeSession<D> {
    session: AdminSession,
    dialect: PhantomData<D>,
}

impl<D: Dialect> AdminConnector<D> {
    /// Returns a connector for the server that runs as this user and has its sockets in this directory of the host.
    pub(crate) fn new(socket_directory: PathBuf, server_uid: u32) -> Self {
        let permits = Arc::new(Semaphore::new(MAX_SESSIONS));
        Self { socket_directory, server_uid, permits, probe: ReadinessProbe::new() }
    }

    /// Opens a session that may read and change anything.
    pub(crate) async fn session(&self) -> Result<AdminSession> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|error| Error::internal("the session pool is closed").with_source(error))?;
        let mut retries = 0;
        let mut session = loop {
            match self.connect(BUDGET).await {
                Err(refused)
                    if refused.reason == ConnectErrorReason::TooManyConnections && retries < CONNECT_RETRIES =>
                {
                    // Clients have all connections but the reserved one, and the probe may have that.
                    self.probe.disconnect();
                    retries += 1;
                    sleep(CONNECT_RETRY_DELAY).await;
                }
                connected => break connected?,
            }
        };
        session.permit = Some(permit);
        Ok(session)
    }

    /// Opens a session that may change accounts, once all earlier sessions have ended.
    pub(crate) async fn change_session(&self) -> Result<AdminSession> {
        let (mut session, since) = (self.session().await?, Instant::now());
        while session.has_predecessor().await? {
            wait_for_earlier_change(since).await?;
        }
        Ok(session)
    }

    /// Probes whether the server answers, its version, and whether it is read-only.
    pub(crate) async fn probe(&self) -> Readiness {
        let connect = async {
            let mut session = self.connect(PROBE_BUDGET).await?;
            session.run(&format!("USE {PROBE_DATABASE}")).await?;
            Ok::<_, ConnectError>(MySqlProbeSession { session, dialect: PhantomData })
        };
        self.probe.probe(connect).await
    }

    /// Lets clients write.
    pub(crate) async fn allow_writes(&self) -> Result<()> {
        let mut session = self.session().await?;
        for statement in D::ALLOW_WRITES {
            session.run(statement).await?;
        }
        Ok(())
    }

    /// Purges the binary logs except the one in use, also those that were written in this second.
    pub(crate) async fn purge_binary_logs(&self) -> Result<()> {
        let mut session = self.session().await?;
        session.run("FLUSH BINARY LOGS").await?;
        session.run("PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY").await
    }

    /// Closes the readiness probe's session.
    pub(crate) fn disconnect(&self) {
        self.probe.disconnect();
    }

    async fn connect(&self, budget: usize) -> Result<AdminSession, ConnectError> {
        let connected = limited(CONNECT_LIMIT, async {
            let stream = container::connect(&self.socket_directory, SOCKET, self.server_uid).await?;
            Client::login(stream, AGENT, budget).await
        });
        let client = connected.await.map_err(|error| match error {
            // The server creates the socket when it is ready and removes it when it is about to end.
            ServerError::Connection(error) if error.kind() == io::ErrorKind::NotFound => ConnectError {
                reason: ConnectErrorReason::NotReady,
                error: Error::unavailable("the database server is starting or stopping").with_source(error),
            },
            ServerError::Connection(error) => {
                Error::unavailable("the database server does not answer").with_source(error).into()
            }
            ServerError::Refused { code: TOO_MANY_CONNECTIONS, .. } => {
                ConnectError { reason: ConnectErrorReason::TooManyConnections, error: error.into() }
            }
            refused => Error::from(refused).into(),
        })?;
        let mut session = AdminSession { client, permit: None };
        session.run(OPTIONS).await?;
        session.run(D::UNLIMITED_STATEMENTS).await?;
        session.run("SET SESSION TRANSACTION READ WRITE").await?;
        Ok(session)
    }
}

impl AdminSession {
    /// Runs a statement that returns no rows.
    pub(crate) async fn run(&mut self, sql: &str) -> Result<()> {
        self.query(sql).await.map(drop).map_err(Error::from)
    }

    /// Runs a statement and returns its rows.
    pub(crate) async fn rows(&mut self, sql: &str) -> Result<Vec<Row>> {
        self.query(sql).await.map_err(Error::from)
    }

    /// Returns true if a query finds any row.
    pub(crate) async fn any(&mut self, sql: &str) -> Result<bool> {
        Ok(!self.rows(sql).await?.is_empty())
    }

    /// Runs a statement and treats these error codes of the server as success.
    pub(crate) async fn run_ignoring(&mut self, codes: &[u16], sql: &str) -> Result<()> {
        match self.query(sql).await {
            Err(ServerError::Refused { code, .. }) if codes.contains(&code) => Ok(()),
            done => done.map(drop).map_err(Error::from),
        }
    }

    /// Runs a statement and returns its rows, or the server's own error.
    pub(super) async fn query(&mut self, sql: &str) -> Result<Vec<Row>, ServerError> {
        limited(STATEMENT_LIMIT, self.client.query(sql)).await
    }

    /// Returns true if the administrator has an older session besides the readiness probe's.
    async fn has_predecessor(&mut self) -> Result<bool> {
        let own = self.rows("SELECT CONNECTION_ID()").await?;
        let number = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<u64>().ok());
        let own = own.first().and_then(|row| row.first()).and_then(number);
        Ok(self.rows("SHOW PROCESSLIST").await?.iter().any(|row| match &row[..] {
            [id, _, _, database, ..] => {
                is_administrator(row) && number(id) < own && database.as_deref() != Some(PROBE_DATABASE)
            }
            _ => false,
        }))
    }
}

impl<D: Dialect> ProbeSession for MySqlProbeSession<D> {
    async fn readiness(&mut self) -> Result<Readiness> {
        let rows = self.session.rows(&format!("SELECT @@version, {}", D::READ_ONLY)).await?;
        let [version, read_only] = rows.into_iter().next().and_then(|row| row.try_into().ok()).unwrap_or_default();
        // In "11.8.9-MariaDB-0+deb13u1" only the first part is the server's version.
        let version = version.and_then(|version| version.split('-').next().map(str::to_owned));
        let version = version.ok_or_else(|| Error::internal("the database server returned no version"))?;
        Ok(match read_only.as_deref() {
            Some("0") => Readiness::Ready { version },
            _ => Readiness::ReadOnly { version },
        })
    }
}

/// Returns true for a row of the process list with a session of the administrator. Only sessions
/// through the socket have the host `localhost` without a port; the tenant's root may have made
/// an account of the same name for other hosts.
pub(super) fn is_administrator(row: &Row) -> bool {
    matches!(&row[..], [_, Some(user), Some(host), ..] if user == AGENT && host == "localhost")
}

async fn limited<T>(limit: Duration, work: impl Future<Output = Result<T, ServerError>>) -> Result<T, ServerError> {
    let timed_out = || io::Error::new(io::ErrorKind::TimedOut, "the database server took too long");
    timeout(limit, work).await.unwrap_or_else(|_| Err(timed_out().into()))
}
