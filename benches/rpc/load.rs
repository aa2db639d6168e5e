//! The same thing over and over, by so many at once.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use trove_benches::Result;

/// How much to do.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Load {
    pub(super) at_once: usize,
    pub(super) seconds: f64,
}

/// What was done.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) count: usize,
    pub(super) seconds: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

impl Load {
    /// Does it, and waits for what was begun in time.
    pub(super) async fn run<W, F>(self, work: W) -> Result<Done>
    where
        W: Fn() -> F + Clone + Send + 'static,
        F: Future<Output = Result<()>> + Send,
    {
        let (started, limit) = (Instant::now(), Duration::from_secs_f64(self.seconds));
        let mut tasks: JoinSet<Result<Vec<Duration>>> = JoinSet::new();
        for _ in 0..self.at_once {
            let work = work.clone();
            tasks.spawn(async move {
                let mut took = Vec::new();
                while started.elapsed() < limit {
                    let since = Instant::now();
                    work().await?;
                    took.push(since.elapsed());
                }
                Ok(took)
            });
        }
        let mut took = Vec::new();
        while let Some(done) = tasks.join_next().await {
            took.extend(done??);
        }
        let seconds = started.elapsed().as_secs_f64();
        took.sort_unstable();
        let milliseconds =
            |percent: usize| took.get(took.len() * percent / 100).map_or(f64::NAN, |took| took.as_secs_f64() * 1e3);
        Ok(Done { count: took.len(), seconds, p50_ms: milliseconds(50), p99_ms: milliseconds(99) })
    }
}
