//! The engine: claims operations that are due, and runs a limited number of them concurrently.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::FlowRegistry;
use crate::{
    error::Result,
    events::Events,
    id::OperationId,
    store::{self, Journal},
    time::{Clock, Timestamp, after, elapsed},
};

/// Settings of the flow engine.
#[derive(Clone, Copy, Debug)]
pub struct EngineSettings {
    /// How long a claim on an operation lasts unless renewed. A running operation renews its claim
    /// every third of this time, so it should be long enough for renewals to fail now and then. The
    /// operations of a dead owner can be claimed after this time, or at once if the store
    /// detects that the owner is dead. Default: 90 s.
    pub lease: Duration,
    /// The maximum number of operations that run concurrently. Default: 64.
    pub concurrency: usize,
    /// The interval at which the journal is polled for work that was not announced in this process.
    /// Default: 1 s.
    pub poll: Duration,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self { lease: Duration::from_secs(90), concurrency: 64, poll: Duration::from_secs(1) }
    }
}

/// Runs flows. Clones share one engine.
pub(crate) struct Engine<C>(pub(super) Arc<EngineInner<C>>);

pub(super) struct EngineInner<C> {
    owner: String,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) context: Arc<C>,
    pub(super) registry: FlowRegistry<C>,
    pub(super) settings: EngineSettings,
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
    /// Creates an engine that runs the flows of `registry` from `journal` on `context`. `owner`
    /// identifies this engine.
    pub(crate) fn new(
        owner: impl Into<String>,
        journal: Arc<dyn Journal>,
        context: Arc<C>,
        registry: FlowRegistry<C>,
        settings: EngineSettings,
        clock: Clock,
        events: Events,
    ) -> Self {
        Self(Arc::new(EngineInner {
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

    /// Starts to claim and run operations in the background, until shut down or `stop` is
    /// cancelled.
    pub(crate) fn start(&self, stop: CancellationToken) {
        let engine = self.clone();
        self.0.tasks.spawn(async move {
            stop.run_until_cancelled(engine.work()).await;
            engine.0.shutdown.cancel();
        });
    }

    /// Wakes the engine because there is new work.
    pub(crate) fn announce(&self) {
        self.0.announced.notify_one();
    }

    /// Wakes the engine because an operation was cancelled, and cancels its step if it runs here.
    pub(crate) fn nudge(&self, operation: OperationId) {
        if let Some(nudge) = self.nudges().get(&operation) {
            nudge.notify_one();
        }
        self.announce();
    }

    /// Cancels running steps, awaits their end up to their deadlines, journals their positions, and
    /// stops.
    pub(crate) async fn shut_down(&self) {
        self.0.shutdown.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Runs the operations that are due now, one after another. Returns the number of claims.
    #[cfg(test)]
    pub(crate) async fn run_due(&self) -> Result<usize> {
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
                        // The next operation on the same instance may have been blocked by this one.
                        engine.announce();
                    });
                    continue;
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(error = error.report(), "failed to claim operations");
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

    /// Runs a claimed operation until it ends, waits, or its claim is lost.
    async fn execute(&self, entry: store::JournalEntry) {
        let (id, kind) = (entry.id, entry.kind.clone());
        let nudge = Arc::new(Notify::new());
        match self.nudges().entry(id) {
            // The clock jumped past the lease of a run that is still active here. That run ends once it is fenced, and
            // the new claim expires after one lease.
            Entry::Occupied(running) => return running.get().notify_one(),
            Entry::Vacant(entry) => drop(entry.insert(nudge.clone())),
        }
        if let Err(error) = self.run_steps(entry, &nudge).await {
            // The lease expires, and an engine, perhaps this one, resumes from the last journal row.
            tracing::warn!(operation = %id, kind, error = error.report(), "lost the claim on an operation");
        }
        self.nudges().remove(&id);
    }

    fn nudges(&self) -> MutexGuard<'_, HashMap<OperationId, Arc<Notify>>> {
        self.0.nudges.lock()
    }
}
