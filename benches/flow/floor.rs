//! Bare commits.

use std::{path::Path, str::FromStr, time::Duration, time::Instant};

use sqlx::{
    PgPool, SqlitePool,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::task::JoinSet;
use trove_benches::Result;

/// As the store has on PostgreSQL.
const CONNECTIONS: u32 = 8;
const ROWS: i64 = 16;
const UPDATE: &str = "UPDATE bare SET value = value + 1 WHERE id = $1";

/// A table of one's own beside the store's, in the same database.
#[derive(Clone)]
pub(super) enum Floor {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Floor {
    /// With what the store sets: WAL, and every commit synced.
    pub(super) async fn sqlite(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(Duration::from_secs(5))
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let pool = SqlitePoolOptions::new().max_connections(1).test_before_acquire(false).connect_with(options).await?;
        Self::Sqlite(pool).filled().await
    }

    pub(super) async fn postgres(url: &str) -> Result<Self> {
        let options = PgConnectOptions::from_str(url)?;
        let pool = PgPoolOptions::new()
            .min_connections(CONNECTIONS)
            .max_connections(CONNECTIONS)
            .test_before_acquire(false)
            .connect_with(options)
            .await?;
        Self::Postgres(pool).filled().await
    }

    /// Commits this often, by as many tasks at once; returns how long that took.
    pub(super) async fn commit(&self, commits: usize, at_once: usize) -> Result<Duration> {
        let started = Instant::now();
        let mut tasks: JoinSet<Result<()>> = JoinSet::new();
        for (row, task) in (0..ROWS).cycle().zip(0..at_once) {
            let (floor, mine) = (self.clone(), (task..commits).step_by(at_once).len());
            tasks.spawn(async move {
                for _ in 0..mine {
                    floor.update(row).await?;
                }
                Ok(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(started.elapsed())
    }

    async fn filled(self) -> Result<Self> {
        self.execute("CREATE TABLE bare (id BIGINT NOT NULL PRIMARY KEY, value BIGINT NOT NULL)", None).await?;
        for row in 0..ROWS {
            self.execute("INSERT INTO bare (id, value) VALUES ($1, 0)", Some(row)).await?;
        }
        Ok(self)
    }

    async fn update(&self, row: i64) -> Result<()> {
        if self.execute(UPDATE, Some(row)).await? == 1 { Ok(()) } else { Err("a row of the floor is missing".into()) }
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
