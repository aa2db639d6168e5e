//! Frees space on a volume that is nearly full, by removing what the server keeps but nobody needs.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use trove_core::model::Disk;

use super::ContainerDatastore;
use crate::container::{Engine, assess::nearly_full};

/// The minimum interval between two attempts.
const EVERY: Duration = Duration::from_secs(30);

/// The time limit of one attempt.
const LIMIT: Duration = Duration::from_secs(2);

/// When the last attempt was made.
#[derive(Debug, Default)]
pub(super) struct ReclaimTimer(Mutex<Option<Instant>>);

impl ReclaimTimer {
    fn is_due(&self) -> bool {
        let mut last = self.0.lock();
        let due = last.is_none_or(|last| last.elapsed() >= EVERY);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

impl<E: Engine> ContainerDatastore<E> {
    /// Asks the server to free space if its volume is nearly full.
    pub(super) async fn reclaim_space(&self, disk: Option<Disk>) {
        if !nearly_full(disk, self.host().volume_size) || !self.reclaim_timer.is_due() {
            return;
        }
        match timeout(LIMIT, self.engine.reclaim_space()).await {
            Ok(Ok(())) => tracing::info!(server = self.name, "reclaimed space on a nearly full volume"),
            Ok(Err(error)) => tracing::warn!(
                server = self.name,
                error = error.report(),
                "failed to reclaim space on a nearly full volume"
            ),
            Err(_) => tracing::warn!(server = self.name, "timed out reclaiming space on a nearly full volume"),
        }
    }
}
