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
use tokio::{sync::watch, time::Instant};

use super::{ReportQueue, attachment::Attachment};
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

/// How many reports of a guest are stored without delay before it has to wait.
const BUDGET: u32 = 16;
/// How long a guest waits for each further one.
const BUDGET_INTERVAL: Duration = Duration::from_secs(1);
/// How long storing the observation after a job may delay the notices that follow it.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// Receives the notices of one guest. A guest can only report on its own instance, because the
/// instance follows from the session over which a notice arrives.
pub(super) struct NoticeReceiver {
    instance: InstanceId,
    reports: ReportQueue,
    clock: Clock,
    attachment: Attachment,
    /// Limits how often reports of this guest are stored without delay.
    settled: Mutex<Budget>,
    progress_sinks: Mutex<HashMap<OperationId, ProgressSink>>,
    /// The number of jobs that have ended.
    jobs_ended: watch::Sender<u64>,
    /// The number of notices that could not be decoded.
    undecodable: AtomicU64,
}

impl NoticeReceiver {
    pub(super) fn new(instance: InstanceId, reports: ReportQueue, clock: Clock, attachment: Attachment) -> Self {
        Self {
            instance,
            reports,
            clock,
            attachment,
            settled: Mutex::new(Budget::new(Instant::now())),
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
        match message::read_notice(text) {
            Ok(Notice::Observed { observed, settled }) => {
                let observed = sanitize_observed(observed);
                let report = InstanceReport { instance: self.instance, observed, at: self.clock.now(), earlier: None };
                if settled && self.settled.lock().take(Instant::now()) {
                    // A caller that sees the job as done must find its effect in the store, unless the store is down.
                    let _ = tokio::time::timeout(STORE_TIMEOUT, self.reports.push_urgent(report)).await;
                } else {
                    self.reports.push(report);
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

/// A rate limit: [`BUDGET`] reports at once, and then one per [`BUDGET_INTERVAL`].
struct Budget {
    left: u32,
    since: Instant,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self { left: BUDGET, since: now }
    }

    /// Takes one from the budget; returns false if nothing is left.
    fn take(&mut self, now: Instant) -> bool {
        let intervals = now.duration_since(self.since).as_secs() / BUDGET_INTERVAL.as_secs();
        let earned = u32::try_from(intervals).unwrap_or(BUDGET).min(BUDGET - self.left);
        if earned > 0 {
            (self.left, self.since) = (self.left + earned, now);
        }
        let granted = self.left > 0;
        self.left = self.left.saturating_sub(1);
        granted
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Notify;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::model::{Health, Observed, SettingsState};

    /// Returns a receiver, and what it has queued.
    fn receiver() -> (NoticeReceiver, ReportQueue) {
        let (queue, clock) = (ReportQueue::new(), Clock::system());
        let attachment = Attachment::new(CancellationToken::new(), Arc::new(Notify::new()));
        (NoticeReceiver::new(InstanceId::new_v4(), queue.clone(), clock, attachment), queue)
    }

    /// Returns a notice with parameters whose names have this length.
    fn notice(names: usize, length: usize) -> Vec<u8> {
        let restart_required = vec!["\"".repeat(length); names];
        let settings = SettingsState { restart_required, rejected: Some("x".repeat(length)) };
        let observed = Observed::new(Health::Healthy).settings(Some(settings));
        message::write(&Notice::Observed { observed, settled: false }).to_vec()
    }

    #[tokio::test]
    async fn a_report_occupies_a_few_kib_at_most() {
        let (receiver, queue) = receiver();
        receiver.handle(&notice(500, 2000)).await;
        assert!(queue.take(1).is_empty(), "a report of a megabyte was accepted");
        receiver.handle(&notice(120, 60)).await;
        let settings = queue.take(1).remove(0).report.observed.settings.unwrap();
        assert_eq!(settings.restart_required.len(), 50);
    }

    #[test]
    fn a_budget_is_restored_over_time() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let mut granted = |after: f32, requests: u32| {
            (0..requests).filter(|_| budget.take(start + Duration::from_secs_f32(after))).count()
        };
        assert_eq!(granted(0.0, 100), 16);
        assert_eq!(granted(0.9, 100), 0);
        assert_eq!(granted(2.5, 100), 2);
        assert_eq!(granted(3.0, 100), 0);
        assert_eq!(granted(1000.0, 100), 16);
    }
}
