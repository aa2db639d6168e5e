use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::Death;
use crate::{
    error::Result,
    id::{InstanceId, OperationId},
    store::{CancelMode, Journal, JournalEntry, JournalRecord, Store},
    time::Timestamp,
};

/// A journal whose user dies at one of its writes.
pub(super) struct MortalJournal {
    store: Store,
    death: Option<(usize, bool)>,
    pub(super) died: Notify,
    pub(super) writes: AtomicUsize,
}

impl MortalJournal {
    pub(super) fn new(store: Store, death: Option<Death>) -> Self {
        let death = match death {
            Some(Death::AtWrite { write, after }) => Some((write, after)),
            Some(Death::AtCall { .. }) | None => None,
        };
        Self { store, death, died: Notify::new(), writes: AtomicUsize::new(0) }
    }

    async fn write<T>(&self, write: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let number = self.writes.fetch_add(1, Ordering::Relaxed);
        match self.death {
            Some((at, after)) if at == number => {
                if after {
                    write.await.unwrap_or_else(|error| panic!("the last write failed: {error:?}"));
                }
                self.died.notify_one();
                std::future::pending().await
            }
            _ => write.await,
        }
    }
}

#[async_trait]
impl Journal for MortalJournal {
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
