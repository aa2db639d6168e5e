use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::Crash;
use crate::{
    error::Result,
    id::{InstanceId, OperationId},
    store::{CancelMode, Journal, JournalEntry, JournalRecord, Store},
    time::Timestamp,
};

/// A journal whose user crashes at one of its writes.
pub(super) struct CrashingJournal {
    store: Store,
    crash: Option<(usize, bool)>,
    pub(super) crashed: Notify,
    pub(super) writes: AtomicUsize,
}

impl CrashingJournal {
    pub(super) fn new(store: Store, crash: Option<Crash>) -> Self {
        let crash = match crash {
            Some(Crash::AtWrite { write, after }) => Some((write, after)),
            Some(Crash::AtCall { .. }) | None => None,
        };
        Self { store, crash, crashed: Notify::new(), writes: AtomicUsize::new(0) }
    }

    async fn write<T>(&self, write: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let number = self.writes.fetch_add(1, Ordering::Relaxed);
        match self.crash {
            Some((at, after)) if at == number => {
                if after {
                    write.await.unwrap_or_else(|error| panic!("the last write failed: {error:?}"));
                }
                self.crashed.notify_one();
                std::future::pending().await
            }
            _ => write.await,
        }
    }
}

#[async_trait]
impl Journal for CrashingJournal {
    async fn claim(&self, owner: &str, now: Timestamp, lease_until: Timestamp) -> Result<Option<JournalEntry>> {
        self.write(self.store.claim(owner, now, lease_until)).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        self.store.next_due().await
    }

    async fn renew(&self, id: OperationId, epoch: u64, lease_until: Timestamp) -> Result<Option<CancelMode>> {
        self.store.renew(id, epoch, lease_until).await
    }

    async fn record(&self, id: OperationId, instance: InstanceId, epoch: u64, record: &JournalRecord) -> Result<()> {
        self.write(self.store.record(id, instance, epoch, record)).await
    }
}
