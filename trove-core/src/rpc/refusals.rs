use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{Address, Refusal};

/// How many frames were dropped, by reason. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Refusals(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts([AtomicU64; Refusal::ALL.len()]);

impl Refusals {
    /// Nothing was dropped yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many were dropped for this reason.
    pub fn count(&self, reason: Refusal) -> u64 {
        self.0.0[reason as usize].load(Ordering::Relaxed)
    }
}

impl Counts {
    /// Counts one more, and tells how many that makes.
    fn add(&self, reason: Refusal) -> u64 {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// What drops frames at one address.
pub(super) struct Refuser {
    at: Address,
    here: Counts,
    everywhere: Refusals,
}

impl Refuser {
    pub(super) fn new(at: Address, everywhere: Refusals) -> Self {
        Self { at, here: Counts::default(), everywhere }
    }

    /// Counts one, and logs ever fewer of this address, without what was in it: whoever floods it is not to fill the log.
    pub(super) fn refuse(&self, reason: Refusal) {
        self.everywhere.0.add(reason);
        let count = self.here.add(reason);
        if count.is_power_of_two() {
            tracing::warn!(at = %self.at, ?reason, count, "a frame was dropped");
        }
    }
}
