//! The statement that stores reports, without a conductor.

use std::{
    str::FromStr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use trove_benches::Result;

const BATCH: usize = 256;
const UPDATE: &str = "UPDATE instances SET disk = new.disk, reported_at = $3
    FROM unnest($1::text[], $2::text[]) AS new (id, disk) WHERE instances.id = new.id";

/// The instances of a store, updated directly.
pub(super) struct UpdateBaseline {
    pool: PgPool,
    instances: Vec<String>,
}

impl UpdateBaseline {
    pub(super) async fn connect(url: &str, instances: Vec<String>) -> Result<Self> {
        let options = PgConnectOptions::from_str(url)?;
        let pool = PgPoolOptions::new().max_connections(1).test_before_acquire(false).connect_with(options).await?;
        Ok(Self { pool, instances })
    }

    /// Updates each instance once, evenly spread over a period. Returns the elapsed time.
    pub(super) async fn run(&self, period: Duration, round: u64) -> Result<Duration> {
        let started = Instant::now();
        let batches = u32::try_from(self.instances.len().div_ceil(BATCH))?;
        for (batch, number) in self.instances.chunks(BATCH).zip(0..) {
            tokio::time::sleep_until((started + period * number / batches).into()).await;
            let disks =
                vec![format!(r#"{{"used":{},"free":{}}}"#, (100 + round) << 20, (900 - round) << 20); batch.len()];
            let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?;
            let done = sqlx::query(UPDATE).bind(batch).bind(disks).bind(now).execute(&self.pool).await?;
            if done.rows_affected() != u64::try_from(batch.len())? {
                return Err("an instance of the baseline is missing".into());
            }
        }
        Ok(started.elapsed())
    }
}
