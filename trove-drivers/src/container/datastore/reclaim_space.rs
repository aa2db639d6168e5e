//! Room on a volume that is nearly full: what the server keeps there and nobody needs yet is given up.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use trove_core::model::Disk;

use super::ContainerDatastore;
use crate::container::{Engine, assess::nearly_full};

/// How often a server is asked to make room.
const EVERY: Duration = Duration::from_secs(30);

/// How long that may take.
const LIMIT: Duration = Duration::from_secs(2);

/// When a server was last asked.
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
    /// Has a server that answers make room where its volume is nearly full.
    pub(super) async fn reclaim_space(&self, disk: Option<Disk>) {
        if !nearly_full(disk, self.host().volume_size) || !self.reclaim_timer.is_due() {
            return;
        }
        match timeout(LIMIT, self.engine.reclaim_space()).await {
            Ok(Ok(())) => tracing::info!(server = self.name, "the volume is nearly full; the server was to make room"),
            Ok(Err(error)) => tracing::warn!(server = self.name, error = error.report(), "the server makes no room"),
            Err(_) => tracing::warn!(server = self.name, "the server took too long to make room"),
        }
    }
}
