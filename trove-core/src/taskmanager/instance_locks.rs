use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use crate::id::InstanceId;

/// One asynchronous lock for each instance that is in use.
#[derive(Default)]
pub(crate) struct InstanceLocks(Mutex<HashMap<InstanceId, Weak<tokio::sync::Mutex<()>>>>);

impl InstanceLocks {
    pub(super) async fn lock(&self, id: InstanceId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock();
            locks.retain(|_, lock| lock.strong_count() > 0);
            let lock = locks.get(&id).and_then(Weak::upgrade).unwrap_or_default();
            locks.insert(id, Arc::downgrade(&lock));
            lock
        };
        lock.lock_owned().await
    }
}
