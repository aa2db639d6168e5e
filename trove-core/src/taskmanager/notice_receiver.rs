//! Receives the notices of agents.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use super::{PendingReport, attachment::Attachment};
use crate::{
    datastore::ProgressSink,
    guest::{
        message::{self, Notice},
        sanitize_observed, sanitize_text,
    },
    id::{InstanceId, OperationId},
    rpc::NotificationHandler,
    store::InstanceReport,
    time::Clock,
};

/// How long storing the observation after a job may delay the notices that follow it.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// Receives the notices of one guest. A guest can only report on its own instance, because the
/// instance follows from the session over which a notice arrives.
pub(super) struct NoticeReceiver {
    instance: InstanceId,
    reports: mpsc::Sender<PendingReport>,
    clock: Clock,
    attachment: Attachment,
    progress_sinks: Mutex<HashMap<OperationId, ProgressSink>>,
    /// The number of jobs that have ended.
    jobs_ended: watch::Sender<u64>,
    /// The number of notices that could not be decoded.
    undecodable: AtomicU64,
}

impl NoticeReceiver {
    pub(super) fn new(
        instance: InstanceId,
        reports: mpsc::Sender<PendingReport>,
        clock: Clock,
        attachment: Attachment,
    ) -> Self {
        Self {
            instance,
            reports,
            clock,
            attachment,
            progress_sinks: Mutex::default(),
            jobs_ended: watch::Sender::new(0),
            undecodable: AtomicU64::default(),
        }
    }

    /// Sends the progress of an operation to `sink` until the returned subscription is dropped.
    pub(super) fn subscribe_progress(
        self: &Arc<Self>,
        operation: OperationId,
        sink: ProgressSink,
    ) -> ProgressSubscription {
        self.progress_sinks.lock().insert(operation, sink);
        ProgressSubscription { receiver: self.clone(), operation }
    }

    /// Returns a future that completes when any job ends after this call.
    pub(super) fn job_ended(&self) -> impl Future<Output = ()> + use<> {
        let mut ended = self.jobs_ended.subscribe();
        async move {
            // Fails only if the guest was detached.
            let _ = ended.changed().await;
        }
    }
}

#[async_trait]
impl NotificationHandler for NoticeReceiver {
    async fn handle(&self, text: &[u8]) {
        match message::read(text) {
            Ok(Notice::Observed { observed, settled }) => {
                let observed = sanitize_observed(observed);
                let report = InstanceReport { instance: self.instance, observed, at: self.clock.now() };
                let (stored, is_stored) = oneshot::channel();
                let pending = PendingReport { report, stored: settled.then_some(stored) };
                if settled {
                    // A caller that sees the job as done must find its effect in the store, unless the store is down.
                    let store = async {
                        // The receiver ends only with the service.
                        let _ = self.reports.send(pending).await;
                        let _ = is_stored.await;
                    };
                    let _ = tokio::time::timeout(STORE_TIMEOUT, store).await;
                } else if self.reports.try_send(pending).is_err() {
                    // Reports are repeated; waiting here would let one guest delay the others.
                    tracing::debug!(instance = %self.instance, "dropped a report because the queue is full");
                }
            }
            Ok(Notice::Progress { operation, mut progress }) => {
                (progress.phase, progress.unit) = (sanitize_text(&progress.phase), sanitize_text(&progress.unit));
                let sink = self.progress_sinks.lock().get(&operation).cloned();
                if let Some(sink) = sink {
                    sink(progress);
                }
            }
            Ok(Notice::JobEnded) => self.jobs_ended.send_modify(|ended| *ended += 1),
            Err(error) => {
                // Log at powers of two, so that a compromised agent cannot flood the log.
                let count = self.undecodable.fetch_add(1, Ordering::Relaxed) + 1;
                if count.is_power_of_two() {
                    tracing::warn!(instance = %self.instance, count, error = error.report(), "failed to decode a notice");
                }
            }
        }
    }

    async fn queue_deleted(&self) {
        tracing::error!(instance = %self.instance, "a queue of the guest was deleted");
        self.attachment.mark_lost();
    }
}

/// A subscription to the progress of an operation.
pub(super) struct ProgressSubscription {
    receiver: Arc<NoticeReceiver>,
    operation: OperationId,
}

impl Drop for ProgressSubscription {
    fn drop(&mut self) {
        self.receiver.progress_sinks.lock().remove(&self.operation);
    }
}
