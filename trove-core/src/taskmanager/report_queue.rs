//! The queue of reports on their way to the store, bounded for each guest and in all.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::Arc,
};

use tokio::sync::{oneshot, watch};

use crate::{
    id::InstanceId,
    model::Health,
    store::{EarlierHealth, InstanceReport},
};

/// The maximum size of all reports in the queue, in bytes. Enough for the usual reports of 100,000
/// instances.
const MAX_BYTES: usize = 32 << 20;
/// The size of a report without its texts.
const BASE_BYTES: usize = 256;

/// The reports that wait to be stored: of each instance the newest one, with the worst health since
/// the last one that was stored. Those for which someone waits are taken first, and then instances
/// in the order in which they began to wait, so that one that reports often does not delay the
/// others. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct ReportQueue(Arc<watch::Sender<State>>);

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<InstanceId, QueuedReport>,
    /// The instances in the order in which they began to wait, and some that were taken before their
    /// turn.
    order: VecDeque<InstanceId>,
    /// Those of them for which someone waits until their report is stored.
    urgent: VecDeque<InstanceId>,
    bytes: usize,
    closed: bool,
}

/// A report in the queue.
#[derive(Debug)]
pub(crate) struct QueuedReport {
    pub(crate) report: InstanceReport,
    /// Signaled once the report is stored; dropped if it could not be stored.
    pub(crate) stored: Vec<oneshot::Sender<()>>,
}

impl ReportQueue {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(State::default())))
    }

    /// Adds a report. Drops it if the queue is full, since reports are repeated.
    pub(crate) fn push(&self, report: InstanceReport) {
        self.add(QueuedReport { report, stored: Vec::new() });
    }

    /// Adds a report that is to be stored without delay. The receiver is signaled once it is stored,
    /// and fails if it could not be stored.
    pub(crate) fn push_urgent(&self, report: InstanceReport) -> oneshot::Receiver<()> {
        let (stored, is_stored) = oneshot::channel();
        self.add(QueuedReport { report, stored: vec![stored] });
        is_stored
    }

    /// Waits until the queue has a report or is closed.
    pub(crate) async fn filled(&self) {
        self.wait_for(|state| !state.waiting.is_empty()).await;
    }

    /// Waits until the queue should be emptied without delay, because someone waits or it has this
    /// many reports or is closed.
    pub(crate) async fn pressing(&self, count: usize) {
        self.wait_for(|state| !state.urgent.is_empty() || state.waiting.len() >= count).await;
    }

    /// Takes up to `count` reports, one of each instance.
    pub(crate) fn take(&self, count: usize) -> Vec<QueuedReport> {
        let mut taken = Vec::new();
        self.0.send_if_modified(|state| {
            while taken.len() < count
                && let Some(instance) = state.urgent.pop_front().or_else(|| state.order.pop_front())
            {
                taken.extend(state.waiting.remove(&instance));
            }
            state.bytes -= taken.iter().map(QueuedReport::size).sum::<usize>();
            false
        });
        taken
    }

    /// Puts back reports that could not be stored, behind the others.
    pub(crate) fn put_back(&self, reports: Vec<InstanceReport>) {
        self.0.send_if_modified(|state| {
            for report in reports {
                state.add(QueuedReport { report, stored: Vec::new() }, merge_older);
            }
            true
        });
    }

    /// Refuses further reports.
    pub(crate) fn close(&self) {
        self.0.send_modify(|state| state.closed = true);
    }

    async fn wait_for(&self, condition: impl Fn(&State) -> bool) {
        // Fails only if the sender is dropped, which `self` owns.
        let _ = self.0.subscribe().wait_for(|state| state.closed || condition(state)).await;
    }

    fn add(&self, queued: QueuedReport) {
        self.0.send_if_modified(|state| state.add(queued, merge_newer));
    }
}

impl State {
    /// Adds a report, or merges it with the one of the same instance. Returns true if it may be what
    /// the conductor waits for.
    fn add(&mut self, added: QueuedReport, merge: fn(QueuedReport, QueuedReport) -> QueuedReport) -> bool {
        if self.closed {
            return false;
        }
        let instance = added.report.instance;
        let before = self.waiting.remove(&instance);
        let was_urgent = before.as_ref().is_some_and(QueuedReport::is_urgent);
        let (is_new, size_before) = (before.is_none(), before.as_ref().map_or(0, QueuedReport::size));
        // A report that is replaced makes room for its successor, so only another instance can be refused.
        if is_new && self.bytes + added.size() > MAX_BYTES {
            tracing::debug!(%instance, "dropped a report because the queue is full");
            return false;
        }
        let merged = match before {
            Some(before) => merge(before, added),
            None => added,
        };
        self.bytes = self.bytes - size_before + merged.size();
        if merged.is_urgent() && !was_urgent {
            self.urgent.push_back(instance);
        }
        self.waiting.insert(instance, merged);
        if is_new {
            self.order.push_back(instance);
        }
        is_new || !self.urgent.is_empty()
    }
}

impl QueuedReport {
    fn is_urgent(&self) -> bool {
        self.stored.iter().any(|stored| !stored.is_closed())
    }

    /// Estimates the memory that this occupies, in bytes.
    fn size(&self) -> usize {
        let report = &self.report;
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let problem = |health: &Health| health.problem().map_or(0, |problem| problem.message.len());
        let settings = report.observed.settings.as_ref().map_or(0, |settings| {
            text(&settings.rejected)
                + settings.restart_required.iter().map(|name| mem::size_of::<String>() + name.len()).sum::<usize>()
        });
        BASE_BYTES
            + text(&report.observed.server_version)
            + problem(&report.observed.health)
            + report.earlier.as_ref().map_or(0, |earlier| problem(&earlier.health))
            + settings
    }
}

/// Replaces a report by a newer one, keeping what the newer one does not state and the worst health
/// before it.
fn merge_newer(older: QueuedReport, newer: QueuedReport) -> QueuedReport {
    let QueuedReport { report: before, stored: mut waiting } = older;
    let QueuedReport { mut report, stored } = newer;
    let observed = &mut report.observed;
    observed.server_version = observed.server_version.take().or(before.observed.server_version);
    observed.disk = observed.disk.take().or(before.observed.disk);
    observed.settings = observed.settings.take().or(before.observed.settings);
    let latest = EarlierHealth { health: before.observed.health, at: before.at };
    let earlier = [before.earlier, Some(latest), report.earlier.take()].into_iter().flatten();
    let worst = earlier.max_by_key(|earlier| severity(&earlier.health));
    report.earlier = worst.filter(|worst| severity(&worst.health) > severity(&report.observed.health));
    waiting.retain(|waiting| !waiting.is_closed());
    waiting.extend(stored);
    QueuedReport { report, stored: waiting }
}

/// Merges a report with an older one that was taken before it arrived.
fn merge_older(newer: QueuedReport, older: QueuedReport) -> QueuedReport {
    merge_newer(older, newer)
}

/// Orders health from good to bad.
fn severity(health: &Health) -> u8 {
    match health {
        Health::Healthy => 0,
        Health::Stopped => 1,
        Health::Starting => 2,
        Health::Impaired(_) => 3,
        Health::Unknown(_) => 4,
        Health::Down(_) => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Condition, Observed, Problem, SettingsState},
        time::Timestamp,
    };

    fn report(instance: InstanceId, second: i64, health: Health) -> InstanceReport {
        InstanceReport { instance, observed: Observed::new(health), at: at(second), earlier: None }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn down(message: &str) -> Health {
        Health::Down(Problem::new(Condition::Exited, message))
    }

    fn taken(queue: &ReportQueue, count: usize) -> Vec<InstanceReport> {
        queue.take(count).into_iter().map(|queued| queued.report).collect()
    }

    #[test]
    fn the_newest_report_and_the_worst_health_before_it_are_kept() {
        let (queue, id) = (ReportQueue::new(), InstanceId::new_v4());
        let version = |report: InstanceReport| InstanceReport {
            observed: report.observed.server_version(Some("17.5".to_owned())),
            ..report
        };
        queue.push(version(report(id, 1, Health::Healthy)));
        queue.push(report(id, 2, down("first")));
        queue.push(report(id, 3, down("second")));
        queue.push(report(id, 4, Health::Starting));
        queue.push(report(id, 5, Health::Healthy));
        let earlier = Some(EarlierHealth { health: down("second"), at: at(3) });
        assert_eq!(taken(&queue, 9), [InstanceReport { earlier, ..version(report(id, 5, Health::Healthy)) }]);
        assert!(taken(&queue, 9).is_empty());
        queue.push(report(id, 6, Health::Starting));
        queue.push(report(id, 7, down("worst last")));
        assert_eq!(taken(&queue, 9), [report(id, 7, down("worst last"))]);
    }

    #[test]
    fn a_report_that_could_not_be_stored_counts_as_older() {
        let (queue, id, other) = (ReportQueue::new(), InstanceId::new_v4(), InstanceId::new_v4());
        queue.push(report(id, 1, down("x")));
        queue.push(report(other, 1, Health::Healthy));
        let failed = taken(&queue, 9);
        queue.push(report(id, 2, Health::Healthy));
        queue.put_back(failed);
        let earlier = Some(EarlierHealth { health: down("x"), at: at(1) });
        let newest = InstanceReport { earlier, ..report(id, 2, Health::Healthy) };
        assert_eq!(taken(&queue, 9), [newest, report(other, 1, Health::Healthy)]);
    }

    #[test]
    fn an_instance_that_reports_often_does_not_overtake_or_displace_others() {
        let queue = ReportQueue::new();
        let ids: [_; 3] = std::array::from_fn(|_| InstanceId::new_v4());
        for round in 0..50 {
            for id in ids {
                queue.push(report(id, round, Health::Healthy));
                (0..20).for_each(|_| queue.push(report(ids[2], round, Health::Healthy)));
            }
        }
        let order: Vec<_> = taken(&queue, 2).into_iter().map(|report| report.instance).collect();
        assert_eq!(order, [ids[0], ids[2]]);
        queue.push(report(ids[2], 99, Health::Healthy));
        let order: Vec<_> = taken(&queue, 2).into_iter().map(|report| report.instance).collect();
        assert_eq!(order, [ids[1], ids[2]]);
    }

    #[test]
    fn a_full_queue_refuses_further_instances_and_accounts_for_what_is_taken() {
        let queue = ReportQueue::new();
        let large = |id| {
            let names = vec!["x".repeat(60); 60];
            let settings = SettingsState { restart_required: names, rejected: Some("y".repeat(2000)) };
            let report = report(id, 1, down(&"z".repeat(2000)));
            InstanceReport { observed: report.observed.settings(Some(settings)), ..report }
        };
        let first = InstanceId::new_v4();
        queue.push(large(first));
        (0..10_000).for_each(|_| queue.push(large(InstanceId::new_v4())));
        let bytes = || queue.0.borrow().bytes;
        let full = bytes();
        assert!((MAX_BYTES - (16 << 10)..=MAX_BYTES).contains(&full), "{full}");
        (0..1000).for_each(|_| queue.push(large(first)));
        assert!(bytes() <= full + (16 << 10));
        assert!(queue.take(usize::MAX).len() < 10_000);
        assert_eq!(bytes(), 0);
    }

    #[tokio::test]
    async fn someone_who_waits_is_told_once_and_does_not_wait_for_others() {
        let (queue, id, other) = (ReportQueue::new(), InstanceId::new_v4(), InstanceId::new_v4());
        queue.push(report(other, 1, Health::Healthy));
        queue.push(report(id, 1, Health::Healthy));
        let waiting = queue.push_urgent(report(id, 1, Health::Healthy));
        queue.push(report(id, 2, Health::Healthy));
        queue.filled().await;
        queue.pressing(usize::MAX).await;
        let queued = queue.take(1).pop().unwrap();
        assert_eq!(queued.report, report(id, 2, Health::Healthy));
        queued.stored.into_iter().for_each(|stored| stored.send(()).unwrap());
        waiting.await.unwrap();
        assert!(queue.0.borrow().urgent.is_empty());
        assert_eq!(taken(&queue, 9), [report(other, 1, Health::Healthy)]);
        queue.close();
        queue.push_urgent(report(id, 3, Health::Healthy)).await.unwrap_err();
        queue.filled().await;
        assert!(queue.take(1).is_empty());
    }
}
