//! Workloads for the benchmarks of this repository. Not part of the public API.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    conductor,
    error::{Error, Result},
    events::Events,
    flow::{End, Engine, EngineSettings, Flow, FlowRegistry, Next, StepCx},
    id::{InstanceId, OperationId},
    lifecycle::State,
    model::{Condition, Disk, Flavor, Health, Instance, Observed, OperationStatus, Problem, gib, mib},
    store::{CancelMode, InsertOutcome, InstanceChange, InstanceReport, Journal, JournalEntry, JournalRecord, Store},
    time::{Clock, Timestamp, elapsed},
};

const STEP_NAMES: [&str; 10] = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];

/// The number of connections of the store.
const CONNECTIONS: usize = 8;
/// The number of reports that arrive at the same time.
const REPORTS_AT_ONCE: u32 = 16;

/// How long a run may take.
const TIMEOUT: Duration = Duration::from_secs(300);

/// The flow engine on a store, with operations that do nothing.
pub struct FlowWorkload(Store);

/// The number of journal calls, and the time that the engine spent in them.
pub type Calls = (u32, Duration);

/// The journal calls of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct JournalCalls {
    /// Calls that claim an operation.
    pub claim: Calls,
    /// Calls that write a row.
    pub record: Calls,
    /// Calls that look for the next operation that is due.
    pub next_due: Calls,
}

impl FlowWorkload {
    /// The number of steps of an operation.
    pub const STEPS: usize = STEP_NAMES.len();

    /// Opens the store at a URL.
    pub async fn connect(url: &str) -> Result<Self> {
        Store::connect(url).await.map(Self)
    }

    /// Runs operations, at most `concurrency` at a time. Returns the time from the start of the
    /// engine to the end of the last operation, and the journal calls meanwhile. The operations are
    /// written before that.
    pub async fn run(&self, operations: usize, concurrency: usize) -> Result<(Duration, JournalCalls)> {
        for _ in 0..operations {
            begin(&self.0).await?;
        }
        let journal = Arc::new(MeteredJournal {
            store: self.0.clone(),
            state: Mutex::new((operations, JournalCalls::default())),
            finished: Notify::new(),
        });
        let settings = EngineSettings { concurrency, ..EngineSettings::default() };
        let registry = FlowRegistry::new().with::<NoOp>();
        let (clock, events) = (Clock::system(), Events::new());
        let engine = Engine::new("bench", journal.clone(), Arc::new(()), registry, settings, clock, events);
        let started = Instant::now();
        engine.start(CancellationToken::new());
        let finished = tokio::time::timeout(TIMEOUT, journal.finished.notified()).await;
        let took = started.elapsed();
        let calls = journal.state.lock().1;
        engine.shut_down().await;
        finished.map_err(|_| Error::timeout("the operations did not end in time"))?;
        Ok((took, calls))
    }

    /// Closes the store.
    pub async fn close(&self) {
        self.0.close().await;
    }
}

impl JournalCalls {
    /// Adds the calls of another run.
    pub fn add(&mut self, other: &Self) {
        for (sum, calls) in
            [(&mut self.claim, other.claim), (&mut self.record, other.record), (&mut self.next_due, other.next_due)]
        {
            *sum = (sum.0 + calls.0, sum.1 + calls.1);
        }
    }
}

/// The conductor on a store, with reports that come from this process.
pub struct ReportWorkload {
    store: Store,
    instances: Vec<InstanceId>,
}

impl ReportWorkload {
    /// Opens the store at a URL and writes this number of instances.
    pub async fn connect(url: &str, instances: usize) -> Result<Self> {
        let store = Store::connect(url).await?;
        let mut written = Vec::with_capacity(instances);
        while written.len() < instances {
            let count = CONNECTIONS.min(instances - written.len());
            written.extend(try_join_all((0..count).map(|_| begin(&store))).await?);
        }
        Ok(Self { store, instances: written })
    }

    /// Reports each instance once, evenly spread over a period, as agents do that report at this
    /// interval. Returns the time until the last report is stored. The disk usage differs in each
    /// round, and the health of one instance in a hundred.
    pub async fn run(&self, period: Duration, round: u64) -> Result<Duration> {
        let stop = CancellationToken::new();
        let (queue, conductor) = conductor::start(self.store.clone(), Events::new(), stop.clone());
        let started = tokio::time::Instant::now();
        let count = u32::try_from(self.instances.len()).unwrap_or(u32::MAX);
        for (instance, index) in self.instances.iter().zip(0..) {
            if index % REPORTS_AT_ONCE == 0 {
                tokio::time::sleep_until(started + period * index / count).await;
            }
            let is_down = index % 100 == 0 && round.is_multiple_of(2);
            let health = if is_down {
                Health::Down(Problem::new(Condition::Exited, "it exited with code 1"))
            } else {
                Health::Healthy
            };
            let disk = Disk { used: Some(mib(100 + round)), free: mib(900 - round) };
            let observed = Observed::new(health).server_version(Some("17.5".to_owned())).disk(Some(disk));
            queue.push(InstanceReport { instance: *instance, observed, at: Timestamp::now(), earlier: None });
        }
        stop.cancel();
        conductor.await.map_err(|error| Error::internal("the conductor failed").with_source(error))?;
        Ok(started.elapsed())
    }

    /// Returns the number of instances whose last report is at most this old.
    pub async fn reported_within(&self, age: Duration) -> Result<usize> {
        let (mut recent, mut after) = (0, None);
        loop {
            let page = self.store.instances(None, after.as_ref(), 1000).await?;
            let is_recent = |at| elapsed(at, Timestamp::now()) <= age;
            recent += page.iter().filter(|instance| instance.reported_at.is_some_and(is_recent)).count();
            after = page.last().cloned();
            if after.is_none() {
                return Ok(recent);
            }
        }
    }

    /// Returns the ids of the instances.
    pub fn instances(&self) -> impl Iterator<Item = String> {
        self.instances.iter().map(ToString::to_string)
    }

    /// Closes the store.
    pub async fn close(&self) {
        self.store.close().await;
    }
}

/// An operation that does nothing, with state of the usual size.
#[derive(Serialize, Deserialize)]
struct NoOp {
    databases: Vec<String>,
}

#[async_trait]
impl Flow for NoOp {
    const KIND: &'static str = "bench.nothing/v1";
    const STEPS: &'static [usize] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    type Step = usize;
    type Context = ();

    fn name(step: usize) -> &'static str {
        STEP_NAMES[step]
    }

    async fn run(&mut self, _step: usize, _cx: &mut StepCx<'_, ()>) -> Result<Next> {
        Ok(Next::Done)
    }

    async fn undo(&mut self, _step: usize, _cx: &mut StepCx<'_, ()>) -> Result<Next> {
        Ok(Next::Done)
    }

    fn ended(&self, _end: End<'_>) -> InstanceChange {
        InstanceChange::to(State::Active)
    }
}

/// Writes an instance and the first journal row of an operation on it.
async fn begin(store: &Store) -> Result<InstanceId> {
    let flavor = Flavor::new("small", mib(512), 1);
    let instance = Instance::new(InstanceId::new_v4(), "bench", "none", flavor, gib(1), Timestamp::now());
    let operation = NoOp { databases: vec!["app".to_owned()] }.begin(OperationId::new_v4())?;
    match store.insert_instance(&instance, "bench", &operation).await? {
        InsertOutcome::Inserted => Ok(instance.id),
        InsertOutcome::Existing(_) | InsertOutcome::StateChanged => Err(Error::internal("an operation was not begun")),
    }
}

/// The journal of a store, which measures its calls and signals the end of the last operation.
struct MeteredJournal {
    store: Store,
    state: Mutex<(usize, JournalCalls)>,
    finished: Notify,
}

impl MeteredJournal {
    fn count(&self, calls: impl FnOnce(&mut JournalCalls) -> &mut Calls, started: Instant) {
        let mut state = self.state.lock();
        let calls = calls(&mut state.1);
        *calls = (calls.0 + 1, calls.1 + started.elapsed());
    }
}

#[async_trait]
impl Journal for MeteredJournal {
    async fn claim(&self, owner: &str, now: Timestamp, lease_until: Timestamp) -> Result<Option<JournalEntry>> {
        let started = Instant::now();
        let claimed = self.store.claim(owner, now, lease_until).await;
        self.count(|calls| &mut calls.claim, started);
        claimed
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        let started = Instant::now();
        let due = self.store.next_due().await;
        self.count(|calls| &mut calls.next_due, started);
        due
    }

    async fn renew(&self, id: OperationId, epoch: u64, lease_until: Timestamp) -> Result<Option<CancelMode>> {
        self.store.renew(id, epoch, lease_until).await
    }

    async fn record(&self, id: OperationId, instance: InstanceId, epoch: u64, record: &JournalRecord) -> Result<()> {
        let started = Instant::now();
        let recorded = self.store.record(id, instance, epoch, record).await;
        self.count(|calls| &mut calls.record, started);
        if recorded.is_ok() && record.status == OperationStatus::Succeeded {
            let mut state = self.state.lock();
            state.0 -= 1;
            if state.0 == 0 {
                self.finished.notify_one();
            }
        }
        recorded
    }
}
