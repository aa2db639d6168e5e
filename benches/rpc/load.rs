//! Load: an action that concurrent tasks repeat for a fixed time.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use trove_benches::Result;

/// The number of concurrent tasks and the time for which they repeat an action.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Load {
    pub(super) concurrency: usize,
    pub(super) seconds: f64,
}

/// The number of completed actions, the elapsed time and the latencies.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct LoadResult {
    pub(super) count: usize,
    pub(super) seconds: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

impl Load {
    /// Repeats an action, and waits for those that started before the time was up.
    pub(super) async fn run<W, F>(self, action: W) -> Result<LoadResult>
    where
        W: Fn() -> F + Clone + Send + 'static,
        F: Future<Output = Result<()>> + Send,
    {
        let (started, duration) = (Instant::now(), Duration::from_secs_f64(self.seconds));
        let mut tasks: JoinSet<Result<Vec<Duration>>> = JoinSet::new();
        for _ in 0..self.concurrency {
            let action = action.clone();
            tasks.spawn(async move {
                let mut latencies = Vec::new();
                while started.elapsed() < duration {
                    let action_started = Instant::now();
                    action().await?;
                    latencies.push(action_started.elapsed());
                }
                Ok(latencies)
            });
        }
        let mut latencies = Vec::new();
        while let Some(outcome) = tasks.join_next().await {
            latencies.extend(outcome??);
        }
        let seconds = started.elapsed().as_secs_f64();
        latencies.sort_unstable();
        let percentile = |percent: usize| {
            let latency = latencies.get(latencies.len() * percent / 100);
            latency.map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
        };
        Ok(LoadResult { count: latencies.len(), seconds, p50_ms: percentile(50), p99_ms: percentile(99) })
    }
}
