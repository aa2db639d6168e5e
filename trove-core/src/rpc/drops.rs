use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{Address, DropReason};

/// Counters of dropped frames, one for each [`DropReason`]. Clones share their counts.
#[derive(Clone, Debug, Default)]
pub struct DropCounters(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts([AtomicU64; DropReason::ALL.len()]);

impl DropCounters {
    /// Creates counters that are all zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of frames that were dropped for this reason.
    pub fn count(&self, reason: DropReason) -> u64 {
        self.0.0[reason as usize].load(Ordering::Relaxed)
    }
}

impl Counts {
    /// Increments a counter and returns its new value.
    fn increment(&self, reason: DropReason) -> u64 {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Counts and logs the frames that are dropped at one address.
pub(super) struct DropRecorder {
    address: Address,
    local: Counts,
    total: DropCounters,
}

impl DropRecorder {
    pub(super) fn new(address: Address, total: DropCounters) -> Self {
        Self { address, local: Counts::default(), total }
    }

    /// Counts a dropped frame. Logs only when the count at this address is a power of two, so that
    /// a peer that sends invalid frames cannot flood the log, and never logs the content of a
    /// frame.
    pub(super) fn record(&self, reason: DropReason) {
        self.total.0.increment(reason);
        let count = self.local.increment(reason);
        if count.is_power_of_two() {
            tracing::warn!(address = %self.address, ?reason, count, "dropped a frame");
        }
    }
}
