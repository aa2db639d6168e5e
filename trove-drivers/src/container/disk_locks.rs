//! Locks that a dropped call keeps until its blocking work has ended.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use trove_core::datastore::GuestHost;

/// A lock for each host, the same for all datastores on it that a driver attaches.
#[derive(Clone, Debug, Default)]
pub(crate) struct DiskLocks(Arc<Mutex<HashMap<PathBuf, Weak<tokio::sync::Mutex<()>>>>>);

impl DiskLocks {
    /// Returns the lock of a host.
    pub(crate) fn of(&self, host: &GuestHost) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock();
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(&host.directory).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        locks.insert(host.directory.clone(), Arc::downgrade(&lock));
        lock
    }
}
