//! One way to run one SQL text on SQLite and PostgreSQL: positional `$n` parameters, text and 64-bit integers.

#[cfg(feature = "sqlite")]
use std::path::Path;
use std::{path::PathBuf, str::FromStr, time::Duration};

#[cfg(feature = "postgres")]
use sqlx::Connection as _;
use sqlx::Row as _;

use crate::error::{Error, Result};

/// How long letting go of the lock may take.
#[cfg(feature = "postgres")]
const UNLOCK_LIMIT: Duration = Duration::from_secs(5);

/// How long a statement may wait for a connection or a lock.
const ACQUIRE_DEADLINE: Duration = Duration::from_secs(10);

/// How long a connection rests before it is asked whether it still lives.
#[cfg(feature = "postgres")]
const RESTED: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(super) enum Db {
    #[cfg(feature = "sqlite")]
    Sqlite { writer: sqlx::SqlitePool, readers: sqlx::SqlitePool, file: Option<PathBuf> },
    #[cfg(feature = "postgres")]
    Postgres(sqlx::PgPool),
}

/// A transaction that may write. Rolled back when dropped.
pub(super) enum Tx {
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
    #[cfg(feature = "postgres")]
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
}

/// A parameter.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(Option<String>),
    Int(Option<i64>),
}

/// A row of a result.
pub(super) enum Row {
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::sqlite::SqliteRow),
    #[cfg(feature = "postgres")]
    Postgres(sqlx::postgres::PgRow),
}

/// Binds the values of a slice to a query, whichever its database.
macro_rules! bound {
    ($sql:expr, $values:expr) => {
        $values.iter().fold(sqlx::query($sql), |query, value| match value {
            Value::Text(text) => query.bind(text.clone()),
            Value::Int(int) => query.bind(*int),
        })
    };
}

/// Reads one column of a row, whichever its database.
macro_rules! cell {
    ($row:expr, $column:expr) => {
        match $row {
            #[cfg(feature = "sqlite")]
            Row::Sqlite(row) => row.try_get($column),
            #[cfg(feature = "postgres")]
            Row::Postgres(row) => row.try_get($column),
        }
        .map_err(unreadable)
    };
}

impl Db {
    pub(super) async fn connect(url: &str) -> Result<Self> {
        let scheme = url.split(':').next().unwrap_or_default();
        match scheme {
            #[cfg(feature = "sqlite")]
            "sqlite" => Self::connect_sqlite(url).await,
            #[cfg(feature = "postgres")]
            "postgres" | "postgresql" => Self::connect_postgres(url).await,
            // The text may be anything, a password too.
            _ => Err(Error::invalid(
                "a store is named by a URL such as sqlite:trove.db or postgres://user@host/database",
            )),
        }
    }

    #[cfg(feature = "sqlite")]
    async fn connect_sqlite(url: &str) -> Result<Self> {
        use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|error| Error::invalid("the store's URL is not one of SQLite").because(error))?
            .create_if_missing(true)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5))
            .journal_mode(SqliteJournalMode::Wal)
            // A journal row stands for something made outside: it must outlive a power cut.
            .synchronous(SqliteSynchronous::Full);
        let one = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_DEADLINE)
            // A file does not go away between two statements.
            .test_before_acquire(false);
        if url.contains(":memory:") || url.contains("mode=memory") {
            let pool = one
                .idle_timeout(None)
                .max_lifetime(None)
                .connect_with(options)
                .await
                .map_err(|error| failed("open the store", error))?;
            return Ok(Self::Sqlite { writer: pool.clone(), readers: pool, file: None });
        }
        let file = options.get_filename().to_owned();
        make_private(&file)?;
        let writer = one.connect_with(options.clone()).await.map_err(|error| failed("open the store", error))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(ACQUIRE_DEADLINE)
            .test_before_acquire(false)
            .connect_lazy_with(options.read_only(true));
        Ok(Self::Sqlite { writer, readers, file: Some(file) })
    }

    #[cfg(feature = "postgres")]
    async fn connect_postgres(url: &str) -> Result<Self> {
        use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| Error::invalid("the store's URL is not one of PostgreSQL"))?
            .application_name("trove")
            // A process that vanished with its host is to be noticed, so that its lock is free for the next.
            .options([
                ("statement_timeout", "10s"),
                ("lock_timeout", "10s"),
                ("tcp_keepalives_idle", "10"),
                ("tcp_keepalives_interval", "5"),
                ("tcp_keepalives_count", "3"),
            ]);
        let pool = PgPoolOptions::new()
            .max_connections(8)
            .acquire_timeout(ACQUIRE_DEADLINE)
            .test_before_acquire(false)
            // Only what has rested may have been lost unnoticed; asking each time would double the round trips.
            .before_acquire(|session, rested| {
                Box::pin(async move {
                    if rested.idle_for > RESTED { session.ping().await.map(|()| true) } else { Ok(true) }
                })
            })
            .connect_with(options)
            .await
            .map_err(|error| failed("open the store", error))?;
        Ok(Self::Postgres(pool))
    }

    /// The file of a SQLite store on disk.
    pub(super) fn file(&self) -> Option<PathBuf> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite { file, .. } => file.clone(),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => None,
        }
    }

    pub(super) async fn begin(&self) -> Result<Tx> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite { writer, .. } => writer.begin_with("BEGIN IMMEDIATE").await.map(Tx::Sqlite),
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => pool.begin().await.map(Tx::Postgres),
        }
        .map_err(|error| failed("begin a transaction", error))
    }

    /// Runs one writing statement by itself; returns how many rows it changed.
    pub(super) async fn execute(&self, sql: &'static str, values: &[Value]) -> Result<u64> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite { writer, .. } => bound!(sql, values).execute(writer).await.map(|done| done.rows_affected()),
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => bound!(sql, values).execute(pool).await.map(|done| done.rows_affected()),
        }
        .map_err(|error| failed("write", error))
    }

    pub(super) async fn rows(&self, sql: &'static str, values: &[Value]) -> Result<Vec<Row>> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite { readers, .. } => {
                bound!(sql, values).fetch_all(readers).await.map(|rows| rows.into_iter().map(Row::Sqlite).collect())
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => {
                bound!(sql, values).fetch_all(pool).await.map(|rows| rows.into_iter().map(Row::Postgres).collect())
            }
        }
        .map_err(|error| failed("read", error))
    }

    pub(super) async fn row(&self, sql: &'static str, values: &[Value]) -> Result<Option<Row>> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    pub(super) async fn close(&self) {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite { writer, readers, .. } => {
                readers.close().await;
                writer.close().await;
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

impl Tx {
    pub(super) async fn execute(&mut self, sql: &'static str, values: &[Value]) -> Result<u64> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(tx) => bound!(sql, values).execute(&mut **tx).await.map(|done| done.rows_affected()),
            #[cfg(feature = "postgres")]
            Self::Postgres(tx) => bound!(sql, values).execute(&mut **tx).await.map(|done| done.rows_affected()),
        }
        .map_err(|error| failed("write", error))
    }

    pub(super) async fn row(&mut self, sql: &'static str, values: &[Value]) -> Result<Option<Row>> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(tx) => bound!(sql, values).fetch_optional(&mut **tx).await.map(|row| row.map(Row::Sqlite)),
            #[cfg(feature = "postgres")]
            Self::Postgres(tx) => bound!(sql, values).fetch_optional(&mut **tx).await.map(|row| row.map(Row::Postgres)),
        }
        .map_err(|error| failed("write", error))
    }

    /// Keeps other control processes out of what follows until the end of the transaction, where there can be any.
    pub(super) async fn lock_schema(&mut self) -> Result<()> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => Ok(()),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => self.execute("SELECT pg_advisory_xact_lock(8025410963)", &[]).await.map(drop),
        }
    }

    pub(super) async fn commit(self) -> Result<()> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(tx) => tx.commit().await,
            #[cfg(feature = "postgres")]
            Self::Postgres(tx) => tx.commit().await,
        }
        .map_err(|error| failed("commit", error).having(crate::error::Effect::Unknown))
    }
}

impl Row {
    pub(super) fn text(&self, column: &str) -> Result<String> {
        cell!(self, column)
    }

    pub(super) fn maybe_text(&self, column: &str) -> Result<Option<String>> {
        cell!(self, column)
    }

    pub(super) fn int(&self, column: &str) -> Result<i64> {
        cell!(self, column)
    }

    pub(super) fn maybe_int(&self, column: &str) -> Result<Option<i64>> {
        cell!(self, column)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(int: i64) -> Self {
        Self::Int(Some(int))
    }
}

impl From<Option<i64>> for Value {
    fn from(int: Option<i64>) -> Self {
        Self::Int(int)
    }
}

/// A connection that holds the lock of the store's one control process, unless another does.
#[cfg(feature = "postgres")]
pub(super) async fn lock_session(pool: &sqlx::PgPool) -> Result<Option<sqlx::PgConnection>> {
    let failed = |error| failed("lock itself", error);
    let mut session = pool.acquire().await.map_err(failed)?.detach();
    let locked = sqlx::query("SELECT pg_try_advisory_lock(8025410964) AS locked").fetch_one(&mut session).await;
    let locked: bool = locked.and_then(|row| row.try_get("locked")).map_err(failed)?;
    Ok(locked.then_some(session))
}

/// Lets go of that lock. Where it cannot be told so in time, the server does when it sees the connection gone.
#[cfg(feature = "postgres")]
pub(super) async fn unlock_session(mut session: sqlx::PgConnection) {
    let told = async {
        sqlx::query("SELECT pg_advisory_unlock_all()").execute(&mut session).await?;
        session.close().await
    };
    match tokio::time::timeout(UNLOCK_LIMIT, told).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the store was not told that it is let go"),
        Err(_) => tracing::debug!("the store was not told in time that it is let go"),
    }
}

/// Makes the file of a store where there is none, for its owner's eyes only; what SQLite puts beside it follows suit.
#[cfg(feature = "sqlite")]
fn make_private(file: &Path) -> Result<()> {
    use std::{fs::OpenOptions, io::ErrorKind, os::unix::fs::OpenOptionsExt};
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(Error::internal(format!("the store {} cannot be made", file.display())).because(error))
        }
        _ => Ok(()),
    }
}

fn failed(what: &str, error: sqlx::Error) -> Error {
    let message = format!("the store could not {what}");
    let unique = error.as_database_error().is_some_and(|error| error.is_unique_violation());
    let referenced = error.as_database_error().is_some_and(|error| error.is_foreign_key_violation());
    match error {
        _ if unique => Error::conflict("the store holds this already").because(error),
        _ if referenced => Error::conflict("it is in use, or what it names is gone").because(error),
        sqlx::Error::PoolTimedOut => Error::unavailable(message + ": it is too busy").because(error),
        sqlx::Error::Io(_) | sqlx::Error::PoolClosed => Error::unavailable(message).because(error),
        sqlx::Error::Database(ref inner) if is_full(inner.message()) => {
            Error::no_space(message + ": its disk is full").because(error)
        }
        // A lost connection, a lock not had in time, a server that restarts: the same statement may work later.
        _ => Error::unavailable(message).because(error),
    }
}

fn is_full(message: &str) -> bool {
    message.contains("disk is full") || message.contains("No space left")
}

fn unreadable(error: sqlx::Error) -> Error {
    Error::corrupt("a row of the store cannot be read").because(error)
}
