use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{Address, Refusal};

/// How many frames were dropped, by reason. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Refusals(Arc<[AtomicU64; Refusal::ALL.len()]>);

impl Refusals {
    /// Nothing was dropped yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many were dropped for this reason.
    pub fn count(&self, reason: Refusal) -> u64 {
        self.0[reason as usize].load(Ordering::Relaxed)
    }

    /// Counts one, and logs ever fewer of them, without what was in it: whoever floods an address is not to fill the log.
    pub(super) fn refuse(&self, at: &Address, reason: Refusal) {
        let count = self.0[reason as usize].fetch_add(1, Ordering::Relaxed) + 1;
        if count.is_power_of_two() {
            tracing::warn!(%at, ?reason, count, "a frame was dropped");
        }
    }
}
