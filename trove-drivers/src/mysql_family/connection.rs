//! The administrator's sessions, over the server's socket.

use std::{future::Future, io, marker::PhantomData, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout},
};
use trove_core::error::{Effect, Error, Result};

use super::{
    Dialect, SOCKET,
    client::{Client, Failure, Row},
};
use crate::container::{self, AGENT, Answer, Asked, Probe, Refusal, former_changes};

/// How long it may take to connect.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// How long one statement may take.
const STATEMENT_LIMIT: Duration = Duration::from_secs(60);

/// How many sessions may be open at once, beside the one that asks whether the server answers: the server keeps one for
/// the administrator.
const SESSIONS: usize = 1;

/// How often, and after which pause, it is tried again to have that one.
const FULL_TRIES: usize = 10;
const FULL_PAUSE: Duration = Duration::from_millis(100);

/// How many bytes the server is heard for in a session that asks whether it answers.
const PROBE_BUDGET: usize = 1 << 16;

/// How many bytes the server is heard for in any other session.
const BUDGET: usize = 16 << 20;

/// The database of the session that is kept, by which it is told from those that change something.
const PROBE_DATABASE: &str = "information_schema";

/// What a server may have been configured to do in every session and must not do in ours: quoting has one rule, nothing
/// waits for ever, nothing is left out or logged.
const OPTIONS: &str = "SET SESSION sql_mode = '', autocommit = 1, completion_type = 0, lock_wait_timeout = 10, \
    innodb_lock_wait_timeout = 10, sql_select_limit = 18446744073709551615, sql_log_off = 1, sql_safe_updates = 0, \
    sql_big_selects = 1, max_sort_length = 1024";

/// Opens sessions with one server.
#[derive(Debug)]
pub(crate) struct Admin<D> {
    sockets: PathBuf,
    /// The user of the host that the server runs as.
    server: u32,
    places: Arc<Semaphore>,
    probe: Probe<ProbeSession<D>>,
}

/// One session, closed when it is dropped.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    place: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
struct ProbeSession<D> {
    session: Session,
    dialect: PhantomData<D>,
}

impl<D: Dialect> Admin<D> {
    /// The administrator of the server that runs as this user and has its sockets in this directory of the host.
    pub(crate) fn new(sockets: PathBuf, server: u32) -> Self {
        Self { sockets, server, places: Arc::new(Semaphore::new(SESSIONS)), probe: Probe::new() }
    }

    /// A session that may read and change anything.
    pub(crate) async fn session(&self) -> Result<Session> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|error| Error::internal("no session is opened any more").because(error))?;
        let mut tries = 0;
        let mut session = loop {
            match self.connect(BUDGET).await {
                Err(error) if says(&error, "code", "1040") && tries < FULL_TRIES => {
                    // Clients have all but the last, and the probe may have that.
                    self.probe.forget();
                    tries += 1;
                    sleep(FULL_PAUSE).await;
                }
                connected => break connected?,
            }
        };
        session.place = Some(place);
        Ok(session)
    }

    /// A session that may change accounts, once all that is older has ended.
    pub(crate) async fn changing(&self) -> Result<Session> {
        let (mut session, since) = (self.session().await?, Instant::now());
        while session.is_preceded().await? {
            former_changes(since).await?;
        }
        Ok(session)
    }

    /// Whether the server answers, its version, and whether it is read-only.
    pub(crate) async fn ask(&self) -> Answer {
        let open = async {
            let mut session = self.connect(PROBE_BUDGET).await?;
            session.run(&format!("USE {PROBE_DATABASE}")).await?;
            Ok(ProbeSession { session, dialect: PhantomData })
        };
        let refusal = |error: &Error| match error {
            error if says(error, "socket", "absent") => Refusal::NotYet,
            error if says(error, "code", "1040") => Refusal::Full,
            _ => Refusal::Other,
        };
        self.probe.ask(open, refusal).await
    }

    /// Lets clients write.
    pub(crate) async fn open(&self) -> Result<()> {
        let mut session = self.session().await?;
        for statement in D::OPEN {
            session.run(statement).await?;
        }
        Ok(())
    }

    /// Drops the binary logs that are not written to any more.
    pub(crate) async fn purge_logs(&self) -> Result<()> {
        let mut session = self.session().await?;
        session.run("FLUSH BINARY LOGS").await?;
        session.run("PURGE BINARY LOGS BEFORE NOW()").await
    }

    /// Closes the session that is kept.
    pub(crate) fn forget(&self) {
        self.probe.forget();
    }

    async fn connect(&self, budget: usize) -> Result<Session> {
        let connected = limited(CONNECT_LIMIT, async {
            let stream = container::connect(&self.sockets, SOCKET, self.server).await?;
            Client::login(stream, AGENT, budget).await
        });
        let client = connected.await.map_err(|failure| match failure {
            // It makes the socket when it is ready and removes it when it is about to end.
            Failure::Broken(error) if error.kind() == io::ErrorKind::NotFound => {
                Error::unavailable("the database server is starting or stopping").with("socket", "absent")
            }
            Failure::Broken(error) => Error::unavailable("the database server does not answer").because(error),
            refused @ Failure::Refused { .. } => translate(refused),
        })?;
        let mut session = Session { client, place: None };
        session.run(OPTIONS).await?;
        session.run(D::UNLIMITED).await?;
        session.run("SET SESSION TRANSACTION READ WRITE").await?;
        Ok(session)
    }
}

impl Session {
    /// Runs a statement that returns nothing.
    pub(crate) async fn run(&mut self, sql: &str) -> Result<()> {
        self.rows(sql).await.map(drop)
    }

    /// Runs a statement and returns its rows.
    pub(crate) async fn rows(&mut self, sql: &str) -> Result<Vec<Row>> {
        limited(STATEMENT_LIMIT, self.client.query(sql)).await.map_err(translate)
    }

    /// True where a query has any row.
    pub(crate) async fn any(&mut self, sql: &str) -> Result<bool> {
        Ok(!self.rows(sql).await?.is_empty())
    }

    /// Whether the administrator has an older session, beside the one that is kept.
    async fn is_preceded(&mut self) -> Result<bool> {
        let own = self.rows("SELECT CONNECTION_ID()").await?;
        let number = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<u64>().ok());
        let own = own.first().and_then(|row| row.first()).and_then(number);
        Ok(self.rows("SHOW PROCESSLIST").await?.iter().any(|row| match &row[..] {
            [id, Some(user), _, database, ..] => {
                user == AGENT && number(id) < own && database.as_deref() != Some(PROBE_DATABASE)
            }
            _ => false,
        }))
    }

    /// Runs a statement that is as good as done where the server says one of these.
    pub(crate) async fn run_unless(&mut self, codes: &[&str], sql: &str) -> Result<()> {
        match self.run(sql).await {
            Err(error) if codes.iter().any(|code| says(&error, "code", code)) => Ok(()),
            done => done,
        }
    }
}

impl<D: Dialect> Asked for ProbeSession<D> {
    async fn answer(&mut self) -> Result<Answer> {
        let rows = self.session.rows(&format!("SELECT @@version, {}", D::READ_ONLY)).await?;
        let [version, read_only] = rows.into_iter().next().and_then(|row| row.try_into().ok()).unwrap_or_default();
        // "11.8.9-MariaDB-0+deb13u1": the packager's words are not the server's version.
        let version = version.and_then(|version| version.split('-').next().map(str::to_owned));
        let version = version.ok_or_else(|| Error::internal("the database server gave no version"))?;
        Ok(if read_only.as_deref() == Some("0") { Answer::Yes { version } } else { Answer::ReadOnly { version } })
    }
}

async fn limited<T>(limit: Duration, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "the database server took too long");
    timeout(limit, work).await.unwrap_or_else(|_| Err(late().into()))
}

/// The server's error as ours. What it says is for the operator.
fn translate(failure: Failure) -> Error {
    let code = match &failure {
        Failure::Broken(error) if error.kind() == io::ErrorKind::TimedOut => {
            return Error::timeout("the database server took too long").having(Effect::Unknown);
        }
        Failure::Broken(_) => {
            let broken = Error::unavailable("the connection to the database server broke off").having(Effect::Unknown);
            return broken.because(failure);
        }
        Failure::Refused { code, .. } => *code,
    };
    let found = match code {
        1040 | 1203 => Error::unavailable("the database server has no connection left"),
        1053 | 1079 | 1927 => Error::unavailable("the database server is starting or stopping"),
        1037 | 1038 | 1041 => Error::unavailable("the database server has no memory left"),
        1021 | 1114 => Error::no_space("the volume of the database server is full"),
        1030 if failure.to_string().contains("28") => Error::no_space("the volume of the database server is full"),
        1205 | 1213 | 3572 => Error::busy("another session of the database server is in the way"),
        1317 | 1969 | 3024 => Error::timeout("the database server took too long"),
        1290 | 1836 => Error::conflict("the database server is read-only"),
        1007 | 1396 => Error::conflict("the name is taken"),
        1008 | 1049 | 1133 | 1141 | 1147 | 1403 => Error::not_found("what is named does not exist"),
        1115 => Error::invalid("the database server knows no such character set"),
        1273 => Error::invalid("the database server knows no such collation"),
        1253 | 1302 => Error::invalid("the collation does not belong to the character set"),
        1059 | 1102 | 1470 => Error::invalid("the database server takes no such name"),
        _ => Error::internal("the database server refused a statement"),
    };
    found.with("code", code).because(failure)
}

fn says(error: &Error, key: &str, value: &str) -> bool {
    error.context().any(|(found, said)| found == key && said == value)
}
