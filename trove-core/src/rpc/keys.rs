use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::InstanceKey;

/// The keys that a guest answers to: one, or two from when it is told of another until the control plane uses that. Clones
/// are the same ones.
#[derive(Clone, Default)]
pub struct Keys(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// The newest at the end.
    known: Mutex<Vec<InstanceKey>>,
    /// The number of the newest that the control plane has used.
    used: watch::Sender<u32>,
}

impl Keys {
    /// This key only.
    pub fn new(key: InstanceKey) -> Self {
        let keys = Self::default();
        keys.learn(key);
        keys
    }

    /// Answers to this key too, in place of one of the same number.
    pub fn learn(&self, key: InstanceKey) {
        let mut known = self.known();
        known.retain(|other| other.id() != key.id());
        known.push(key);
        known.sort_by_key(InstanceKey::id);
    }

    /// Waits until the control plane uses a key of a higher number than this, and returns its number. Those below it are
    /// not answered to any more.
    pub async fn used_above(&self, number: u32) -> u32 {
        let mut used = self.0.used.subscribe();
        // It ends only with the keys.
        let found = used.wait_for(|used| *used > number).await.map(|used| *used);
        found.unwrap_or(number)
    }

    pub(super) fn all(&self) -> Vec<InstanceKey> {
        self.known().clone()
    }

    pub(super) fn find(&self, number: u32) -> Option<InstanceKey> {
        self.known().iter().find(|key| key.id() == number).cloned()
    }

    /// Notes that the control plane uses this one: a session stands.
    pub(super) fn use_from(&self, number: u32) {
        self.known().retain(|key| key.id() >= number);
        self.0.used.send_if_modified(|used| {
            let newer = number > *used;
            *used = number.max(*used);
            newer
        });
    }

    fn known(&self) -> MutexGuard<'_, Vec<InstanceKey>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
