//! The engine at work on operations that do nothing.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use trove_benches::Result;
use trove_core::{
    error,
    events::Events,
    flow::{End, Engine, Flow, Next, Registry, Settings, StepCx},
    id::{InstanceId, OperationId},
    lifecycle::State,
    model::{Flavor, Instance, OperationStatus, gib, mib},
    store::{CancelMode, InsertOutcome, InstanceChange, Journal, JournalEntry, JournalRecord, Store},
    time::{Clock, Timestamp},
};

/// How many steps an operation has.
pub(super) const STEPS: usize = NAMES.len();

const NAMES: [&str; 10] = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];

/// How long a pass may take.
const LIMIT: Duration = Duration::from_secs(300);

/// An operation that does nothing, with state of the usual size.
#[derive(serde::Serialize, serde::Deserialize)]
struct Nothing {
    databases: Vec<String>,
}

#[async_trait]
impl Flow for Nothing {
    const KIND: &'static str = "bench.nothing/v1";
    const STEPS: &'static [usize] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    type Step = usize;
    type Context = ();

    fn name(step: usize) -> &'static str {
        NAMES[step]
    }

    async fn run(&mut self, _step: usize, _cx: &mut StepCx<'_, ()>) -> error::Result<Next> {
        Ok(Next::Done)
    }

    async fn undo(&mut self, _step: usize, _cx: &mut StepCx<'_, ()>) -> error::Result<Next> {
        Ok(Next::Done)
    }

    fn ended(&self, _end: End<'_>) -> InstanceChange {
        InstanceChange::to(State::Active)
    }
}

/// Calls of the journal, and the time that the engine waited for them.
#[derive(Clone, Default)]
pub(super) struct Spent {
    pub(super) claim: Calls,
    pub(super) record: Calls,
    pub(super) look: Calls,
}

type Calls = (u32, Duration);

impl Spent {
    pub(super) fn add(&mut self, other: &Self) {
        for (mine, theirs) in
            [(&mut self.claim, other.claim), (&mut self.record, other.record), (&mut self.look, other.look)]
        {
            *mine = (mine.0 + theirs.0, mine.1 + theirs.1);
        }
    }
}

/// The journal of a store, watched: what it is asked, and when the last operation has ended.
struct Watched {
    store: Store,
    state: Mutex<(usize, Spent)>,
    finished: Notify,
}

/// Runs this many operations, so many at once; returns how long that took from the start of the engine to the last
/// operation's end, and what the journal was asked meanwhile. They are written before that.
pub(super) async fn run(store: &Store, flows: usize, at_once: usize) -> Result<(Duration, Spent)> {
    for _ in 0..flows {
        begin(store).await?;
    }
    let journal = Arc::new(Watched {
        store: store.clone(),
        state: Mutex::new((flows, Spent::default())),
        finished: Notify::new(),
    });
    let settings = Settings { concurrency: at_once, ..Settings::default() };
    let registry = Registry::new().with::<Nothing>();
    let (clock, events) = (Clock::system(), Events::new());
    let engine = Engine::new("bench", journal.clone(), Arc::new(()), registry, settings, clock, events);
    let started = Instant::now();
    engine.start(CancellationToken::new());
    let ended = tokio::time::timeout(LIMIT, journal.finished.notified()).await;
    let took = started.elapsed();
    let spent = journal.state().1.clone();
    engine.shut_down().await;
    ended.map_err(|_| "the operations did not end in time")?;
    Ok((took, spent))
}

/// Writes an instance and the first row of an operation on it.
async fn begin(store: &Store) -> Result<()> {
    let flavor = Flavor::new("small", mib(512), 1);
    let instance = Instance::new(InstanceId::new_v4(), "bench", "none", flavor, gib(1), Timestamp::now());
    let operation = Nothing { databases: vec!["app".to_owned()] }.begin(OperationId::new_v4())?;
    match store.insert_instance(&instance, "bench", &operation).await? {
        InsertOutcome::Inserted => Ok(()),
        InsertOutcome::Existing(_) | InsertOutcome::StateChanged => Err("an operation did not begin".into()),
    }
}

impl Watched {
    fn state(&self) -> std::sync::MutexGuard<'_, (usize, Spent)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, calls: impl FnOnce(&mut Spent) -> &mut Calls, since: Instant) {
        let mut state = self.state();
        let calls = calls(&mut state.1);
        *calls = (calls.0 + 1, calls.1 + since.elapsed());
    }
}

#[async_trait]
impl Journal for Watched {
    async fn claim(&self, owner: &str, now: Timestamp, lease_until: Timestamp) -> error::Result<Option<JournalEntry>> {
        let started = Instant::now();
        let claimed = self.store.claim(owner, now, lease_until).await;
        self.count(|spent| &mut spent.claim, started);
        claimed
    }

    async fn next_due(&self) -> error::Result<Option<Timestamp>> {
        let started = Instant::now();
        let due = self.store.next_due().await;
        self.count(|spent| &mut spent.look, started);
        due
    }

    async fn renew(&self, id: OperationId, epoch: u64, lease_until: Timestamp) -> error::Result<Option<CancelMode>> {
        self.store.renew(id, epoch, lease_until).await
    }

    async fn record(
        &self,
        id: OperationId,
        instance: InstanceId,
        epoch: u64,
        record: &JournalRecord,
    ) -> error::Result<()> {
        let started = Instant::now();
        let recorded = self.store.record(id, instance, epoch, record).await;
        self.count(|spent| &mut spent.record, started);
        if recorded.is_ok() && record.status == OperationStatus::Succeeded {
            let mut state = self.state();
            state.0 -= 1;
            if state.0 == 0 {
                self.finished.notify_one();
            }
        }
        recorded
    }
}
