//! Commits without an engine.

use std::{path::Path, str::FromStr, time::Duration, time::Instant};

use sqlx::{
    PgPool, SqlitePool,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::task::JoinSet;
use trove_benches::Result;

/// The number of connections of the store on PostgreSQL.
const CONNECTIONS: u32 = 8;
const ROWS: i64 = 16;
const UPDATE: &str = "UPDATE baseline SET value = value + 1 WHERE id = $1";

/// A separate table in the database of the store.
#[derive(Clone)]
pub(super) enum CommitBaseline {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl CommitBaseline {
    /// Opens the database with the settings of the store: WAL, every commit synced.
    pub(super) async fn sqlite(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(Duration::from_secs(5))
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let pool = SqlitePoolOptions::new().max_connections(1).test_before_acquire(false).connect_with(options).await?;
        Self::Sqlite(pool).create_rows().await
    }

    pub(super) async fn postgres(url: &str) -> Result<Self> {
        let options = PgConnectOptions::from_str(url)?;
        let pool = PgPoolOptions::new()
            .min_connections(CONNECTIONS)
            .max_connections(CONNECTIONS)
            .test_before_acquire(false)
            .connect_with(options)
            .await?;
        Self::Postgres(pool).create_rows().await
    }

    /// Commits this number of updates in concurrent tasks; returns the elapsed time.
    pub(super) async fn commit(&self, commits: usize, concurrency: usize) -> Result<Duration> {
        let started = Instant::now();
        let mut tasks: JoinSet<Result<()>> = JoinSet::new();
        for (row, task) in (0..ROWS).cycle().zip(0..concurrency) {
            let (baseline, count) = (self.clone(), (task..commits).step_by(concurrency).len());
            tasks.spawn(async move {
                for _ in 0..count {
                    baseline.update(row).await?;
                }
                Ok(())
            });
        }
        while let Some(outcome) = tasks.join_next().await {
            outcome??;
        }
        Ok(started.elapsed())
    }

    async fn create_rows(self) -> Result<Self> {
        self.execute("CREATE TABLE baseline (id BIGINT NOT NULL PRIMARY KEY, value BIGINT NOT NULL)", None).await?;
        for row in 0..ROWS {
            self.execute("INSERT INTO baseline (id, value) VALUES ($1, 0)", Some(row)).await?;
        }
        Ok(self)
    }

    async fn update(&self, row: i64) -> Result<()> {
        if self.execute(UPDATE, Some(row)).await? == 1 {
            Ok(())
        } else {
            Err("a row of the baseline is missing".into())
        }
    }

    async fn execute(&self, sql: &'static str, row: Option<i64>) -> Result<u64> {
        Ok(match self {
            Self::Sqlite(pool) => {
                let query = sqlx::query(sql);
                let query = if row.is_some() { query.bind(row) } else { query };
                query.execute(pool).await?.rows_affected()
            }
            Self::Postgres(pool) => {
                let query = sqlx::query(sql);
                let query = if row.is_some() { query.bind(row) } else { query };
                query.execute(pool).await?.rows_affected()
            }
        })
    }
}
