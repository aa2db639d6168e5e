//! The engine: claims what is due and runs it, as much at a time as it may.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Registry;
use crate::{
    error::Result,
    events::Events,
    id::OperationId,
    store::{self, Journal},
    time::{Clock, Timestamp, after, elapsed},
};

/// How an [`Engine`] works.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long a claim lasts unless renewed; longer than any step may take. What a dead owner held is free after this,
    /// or at once where the store can tell that it is dead.
    pub lease: Duration,
    /// How many operations run at a time.
    pub concurrency: usize,
    /// How often to look for work that nobody announced: another process's, or a dead one's.
    pub poll: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { lease: Duration::from_secs(90), concurrency: 64, poll: Duration::from_secs(1) }
    }
}

/// Runs flows. Cheap to clone.
pub struct Engine<C>(pub(super) Arc<Inner<C>>);

pub(super) struct Inner<C> {
    owner: String,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) context: Arc<C>,
    pub(super) registry: Registry<C>,
    pub(super) settings: Settings,
    pub(super) started: Timestamp,
    pub(super) clock: Clock,
    pub(super) events: Events,
    announced: Notify,
    nudges: Mutex<HashMap<OperationId, Arc<Notify>>>,
    pub(super) shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl<C> Clone for Engine<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<C: Send + Sync + 'static> Engine<C> {
    /// An engine that runs `registry`'s flows from `journal` on `context`. `owner` is unique to it.
    pub fn new(
        owner: impl Into<String>,
        journal: Arc<dyn Journal>,
        context: Arc<C>,
        registry: Registry<C>,
        settings: Settings,
        clock: Clock,
        events: Events,
    ) -> Self {
        Self(Arc::new(Inner {
            owner: owner.into(),
            journal,
            context,
            registry,
            settings,
            started: clock.now(),
            clock,
            events,
            announced: Notify::new(),
            nudges: Mutex::default(),
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Begins to look for work in the background, until shut down or `stop` is cancelled.
    pub fn start(&self, stop: CancellationToken) {
        let engine = self.clone();
        self.0.tasks.spawn(async move {
            stop.run_until_cancelled(engine.work()).await;
            engine.0.shutdown.cancel();
        });
    }

    /// Says that there is new work.
    pub fn announce(&self) {
        self.0.announced.notify_one();
    }

    /// Says that an operation was cancelled, so that a step that runs here hears of it at once.
    pub fn nudge(&self, operation: OperationId) {
        if let Some(nudge) = self.nudges().get(&operation) {
            nudge.notify_one();
        }
        self.announce();
    }

    /// Lets running steps end (or run into their deadlines), journals where they stand, and stops.
    pub async fn shut_down(&self) {
        self.0.shutdown.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Runs what is due now, one after the other; returns how many claims that took.
    pub async fn run_due(&self) -> Result<usize> {
        let mut claims = 0;
        while let Some(entry) = self.claim().await? {
            self.execute(entry).await;
            claims += 1;
        }
        Ok(claims)
    }

    async fn work(&self) {
        let permits = Arc::new(Semaphore::new(self.0.settings.concurrency));
        loop {
            let permit = tokio::select! {
                () = self.0.shutdown.cancelled() => return,
                Ok(permit) = permits.clone().acquire_owned() => permit,
            };
            match self.claim().await {
                Ok(Some(entry)) => {
                    let engine = self.clone();
                    self.0.tasks.spawn(async move {
                        engine.execute(entry).await;
                        drop(permit);
                        // The next operation of the same instance may have waited for this one.
                        engine.announce();
                    });
                    continue;
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(error = error.report(), "cannot claim operations");
                    tokio::time::sleep(self.0.settings.poll).await;
                }
            }
            drop(permit);
            let pause = self.pause_until_due().await;
            tokio::select! {
                () = self.0.shutdown.cancelled() => return,
                () = self.0.announced.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn pause_until_due(&self) -> Duration {
        match self.0.journal.next_due().await {
            Ok(Some(due)) => elapsed(self.0.clock.now(), due).clamp(Duration::from_millis(1), self.0.settings.poll),
            Ok(None) | Err(_) => self.0.settings.poll,
        }
    }

    async fn claim(&self) -> Result<Option<store::JournalEntry>> {
        let now = self.0.clock.now();
        self.0.journal.claim(&self.0.owner, now, after(now, self.0.settings.lease)).await
    }

    /// Runs a claimed operation until it ends, waits, or is lost to another owner.
    async fn execute(&self, entry: store::JournalEntry) {
        let (id, kind) = (entry.id, entry.kind.clone());
        let nudge = Arc::new(Notify::new());
        match self.nudges().entry(id) {
            // The clock jumped over the lease of a run that still goes on here: it ends when it finds itself fenced,
            // and what was claimed now is free again a lease later.
            Entry::Occupied(running) => return running.get().notify_one(),
            Entry::Vacant(place) => drop(place.insert(nudge.clone())),
        }
        if let Err(error) = self.run_steps(entry, &nudge).await {
            // Its lease runs out and somebody, perhaps this engine, goes on from the last journal row.
            tracing::warn!(operation = %id, kind, error = error.report(), "lost hold of an operation");
        }
        self.nudges().remove(&id);
    }

    fn nudges(&self) -> std::sync::MutexGuard<'_, HashMap<OperationId, Arc<Notify>>> {
        self.0.nudges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
