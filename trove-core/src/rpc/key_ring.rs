use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::InstanceKey;

/// The keys that a guest accepts frames under.
///
/// There is one key, or two while a key is being rotated: the guest accepts both until the control
/// plane uses the new one. Clones share their state.
#[derive(Clone, Default)]
pub struct KeyRing(Arc<KeyRingState>);

#[derive(Default)]
struct KeyRingState {
    /// In ascending order of their numbers.
    keys: Mutex<Vec<InstanceKey>>,
    /// The highest key number that the control plane has used.
    active: watch::Sender<u32>,
}

impl KeyRing {
    /// Creates a key ring with one key.
    pub fn new(key: InstanceKey) -> Self {
        let keys = Self::default();
        keys.insert(key);
        keys
    }

    /// Adds a key, or replaces the key with the same number.
    pub fn insert(&self, key: InstanceKey) {
        let mut keys = self.0.keys.lock();
        keys.retain(|other| other.id() != key.id());
        keys.push(key);
        keys.sort_by_key(InstanceKey::id);
    }

    /// Waits until the control plane uses a key with a number above `number`, and returns the
    /// number of that key. Keys with a lower number have been removed by then.
    pub async fn activated_above(&self, number: u32) -> u32 {
        let mut active = self.0.active.subscribe();
        // The sender lives as long as `self`, so this cannot fail.
        let found = active.wait_for(|active| *active > number).await.map(|active| *active);
        found.unwrap_or(number)
    }

    pub(super) fn all(&self) -> Vec<InstanceKey> {
        self.0.keys.lock().clone()
    }

    pub(super) fn get(&self, number: u32) -> Option<InstanceKey> {
        self.0.keys.lock().iter().find(|key| key.id() == number).cloned()
    }

    /// Records that a session under this key is established, and removes the keys before it.
    pub(super) fn activate(&self, number: u32) {
        self.0.keys.lock().retain(|key| key.id() >= number);
        self.0.active.send_if_modified(|active| {
            let newer = number > *active;
            *active = number.max(*active);
            newer
        });
    }
}
