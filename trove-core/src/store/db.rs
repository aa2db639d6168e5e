//! Runs the same SQL text on SQLite and PostgreSQL, with positional `$n` parameters of text and
//! 64-bit integers.

#[cfg(feature = "sqlite")]
use std::path::Path;
use std::{path::PathBuf, str::FromStr, time::Duration};

#[cfg(feature = "postgres")]
use sqlx::Connection as _;
use sqlx::Row as _;

use crate::error::{Error, Result};

/// The deadline for releasing the lock.
#[cfg(feature = "postgres")]
const UNLOCK_DEADLINE: Duration = Duration::from_secs(5);

/// The deadline for acquiring a connection.
const ACQUIRE_DEADLINE: Duration = Duration::from_secs(10);

/// How long a connection is idle before it is tested ahead of its next use.
#[cfg(feature = "postgres")]
const TEST_AFTER_IDLE: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(super) enum Db {
    #[cfg(feature = "sqlite")]
    Sqlite { writer: sqlx::SqlitePool, readers: sqlx::SqlitePool, file: Option<PathBuf> },
    #[cfg(feature = "postgres")]
    Postgres(sqlx::PgPool),
}

/// A read-write transaction, rolled back on drop.
pub(super) enum Tx {
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
    #[cfg(feature = "postgres")]
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
}

/// A statement whose text differs between the databases.
#[derive(Clone, Copy)]
pub(super) struct Sql {
    #[cfg_attr(not(feature = "sqlite"), expect(dead_code, reason = "the database is not used"))]
    pub(super) sqlite: &'static str,
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "the database is not used"))]
    pub(super) postgres: &'static str,
}

/// A parameter of a statement.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(Option<String>),
    Int(Option<i64>),
}

/// A row of a result set.
pub(super) enum Row {
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::sqlite::SqliteRow),
    #[cfg(feature = "postgres")]
    Postgres(sqlx::postgres::PgRow),
}

/// Binds values to a query of either database.
macro_rules! bound {
    ($sql:expr, $values:expr) => {
        $values.iter().fold(sqlx::query($sql), |query, value| match value {
            Value::Text(text) => query.bind(text.clone()),
            Value::Int(int) => query.bind(*int),
        })
    };
}

/// Reads a column of a row of either database.
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
            // The URL may contain a password.
            _ => Err(Error::invalid(
                "the store URL must have a form such as sqlite:trove.db or postgres://user@host/database",
            )),
        }
    }

    #[cfg(feature = "sqlite")]
    async fn connect_sqlite(url: &str) -> Result<Self> {
        use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|error| Error::invalid("the store URL is not a valid SQLite URL").with_source(error))?
            .create_if_missing(true)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5))
            .journal_mode(SqliteJournalMode::Wal)
            // A journal row records a resource outside of the store, so it must survive a power
            // failure.
            .synchronous(SqliteSynchronous::Full);
        let one = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_DEADLINE)
            // A connection to a file does not break.
            .test_before_acquire(false);
        if url.contains(":memory:") || url.contains("mode=memory") {
            let pool = one
                .idle_timeout(None)
                .max_lifetime(None)
                .connect_with(options)
                .await
                .map_err(|error| failed("open its database", error))?;
            return Ok(Self::Sqlite { writer: pool.clone(), readers: pool, file: None });
        }
        let file = options.get_filename().to_owned();
        create_private(&file)?;
        let writer = one.connect_with(options.clone()).await.map_err(|error| failed("open its database", error))?;
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
            .map_err(|_| Error::invalid("the store URL is not a valid PostgreSQL URL"))?
            .application_name("trove")
            // Detect a dead host, so that its lock is released.
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
            // Testing each time would double the round trips.
            .before_acquire(|session, idle| {
                Box::pin(async move {
                    if idle.idle_for > TEST_AFTER_IDLE { session.ping().await.map(|()| true) } else { Ok(true) }
                })
            })
            .connect_with(options)
            .await
            .map_err(|error| failed("open its database", error))?;
        Ok(Self::Postgres(pool))
    }

    /// Returns the file of a SQLite store on disk.
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

    /// Executes a statement in its own transaction; returns the number of affected rows.
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
    /// Returns the text of a statement for this database.
    pub(super) fn text(&self, sql: Sql) -> &'static str {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => sql.sqlite,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => sql.postgres,
        }
    }

    pub(super) async fn execute(&mut self, sql: &'static str, values: &[Value]) -> Result<u64> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(tx) => bound!(sql, values).execute(&mut **tx).await.map(|done| done.rows_affected()),
            #[cfg(feature = "postgres")]
            Self::Postgres(tx) => bound!(sql, values).execute(&mut **tx).await.map(|done| done.rows_affected()),
        }
        .map_err(|error| failed("write", error))
    }

    pub(super) async fn rows(&mut self, sql: &'static str, values: &[Value]) -> Result<Vec<Row>> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(tx) => {
                bound!(sql, values).fetch_all(&mut **tx).await.map(|rows| rows.into_iter().map(Row::Sqlite).collect())
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(tx) => {
                bound!(sql, values).fetch_all(&mut **tx).await.map(|rows| rows.into_iter().map(Row::Postgres).collect())
            }
        }
        .map_err(|error| failed("write", error))
    }

    pub(super) async fn row(&mut self, sql: &'static str, values: &[Value]) -> Result<Option<Row>> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    /// Locks the schema against concurrent migrations until the end of the transaction.
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
        .map_err(|error| failed("commit", error).with_effect(crate::error::Effect::Unknown))
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

/// Returns a connection that holds the lock of the control plane; `None` if another process holds
/// it.
#[cfg(feature = "postgres")]
pub(super) async fn lock_session(pool: &sqlx::PgPool) -> Result<Option<sqlx::PgConnection>> {
    let failed = |error| failed("acquire its lock", error);
    let mut session = pool.acquire().await.map_err(failed)?.detach();
    let locked = sqlx::query("SELECT pg_try_advisory_lock(8025410964) AS locked").fetch_one(&mut session).await;
    let locked: bool = locked.and_then(|row| row.try_get("locked")).map_err(failed)?;
    Ok(locked.then_some(session))
}

/// Releases the lock. If this fails, the server releases it when it notices the closed connection.
#[cfg(feature = "postgres")]
pub(super) async fn unlock_session(mut session: sqlx::PgConnection) {
    let released = async {
        sqlx::query("SELECT pg_advisory_unlock_all()").execute(&mut session).await?;
        session.close().await
    };
    match tokio::time::timeout(UNLOCK_DEADLINE, released).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "failed to release the lock of the store"),
        Err(_) => tracing::debug!("timed out releasing the lock of the store"),
    }
}

/// Creates the file of a store with mode 0600 if it does not exist. SQLite gives its other files
/// the same mode.
#[cfg(feature = "sqlite")]
fn create_private(file: &Path) -> Result<()> {
    use std::{fs::OpenOptions, io::ErrorKind, os::unix::fs::OpenOptionsExt};
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(Error::internal(format!("could not create the store {}", file.display())).with_source(error))
        }
        _ => Ok(()),
    }
}

fn failed(what: &str, error: sqlx::Error) -> Error {
    let message = format!("the store could not {what}");
    let unique = error.as_database_error().is_some_and(|error| error.is_unique_violation());
    let referenced = error.as_database_error().is_some_and(|error| error.is_foreign_key_violation());
    match error {
        _ if unique => Error::conflict("the store already contains this entry").with_source(error),
        _ if referenced => {
            Error::conflict("the entry is in use, or refers to an entry that does not exist").with_source(error)
        }
        sqlx::Error::PoolTimedOut => Error::unavailable(message + ": all connections are in use").with_source(error),
        sqlx::Error::Io(_) | sqlx::Error::PoolClosed => Error::unavailable(message).with_source(error),
        sqlx::Error::Database(ref inner) if is_full(inner.message()) => {
            Error::no_space(message + ": the disk is full").with_source(error)
        }
        // For example a lost connection, a lock timeout or a restart of the server.
        _ => Error::unavailable(message).with_source(error),
    }
}

fn is_full(message: &str) -> bool {
    message.contains("disk is full") || message.contains("No space left")
}

fn unreadable(error: sqlx::Error) -> Error {
    Error::corrupt("could not decode a row of the store").with_source(error)
}
