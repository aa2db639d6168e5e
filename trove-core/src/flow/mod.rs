//! Operations that survive: a line of steps, each repeatable, journalled in the store, taken over when its owner dies.
//!
//! A [`Flow`] is a serde struct (its own state), an enum of steps, one `run` and one `undo`. The [`Engine`] claims it,
//! runs step after step and writes where it stands after each, together with what changed about the instance.
//!
//! ```text
//!             run 0 -> run 1 -> ... -> run n -> Succeeded
//!               |        |               |
//!   cancelled or failed for good: undo begins AT that step
//!               v        v               v
//!  Failed <- undo 0 <- undo 1 <- ...  <- undo n          an undo (or a step without undo) that keeps failing: Stuck
//! ```
//!
//! 1. Steps run **at least once**. They find what they made by a derived name, never by an id they meant to save.
//! 2. Undo is as repeatable as run, and starts at the step that failed: it may have half happened.
//! 3. [`Next::Wait`] writes when to go on and lets go: waiting costs a row, not a task, and survives a restart.
//! 4. A claim raises the instance's epoch; whatever a former owner writes after that is refused.
//! 5. Each try of a step has a deadline, each step a limit of tries and of time ([`Limits`]). Nothing is left for ever.
//! 6. Kinds carry a version (`instance.create/v1`). Names of steps are only ever added.

mod engine;
mod plan;
mod registry;
mod run;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use serde::{Serialize, de::DeserializeOwned};
use tokio_util::sync::CancellationToken;

pub use engine::{Engine, Settings};
pub use registry::Registry;

use crate::{
    error::Result,
    events::Events,
    id::{InstanceId, OperationId},
    model::{Event, EventKind, OperationError, OperationStatus, Progress},
    platform::Ensured,
    secret::Sealed,
    store::{InstanceChange, NewOperation},
    time::Clock,
};

/// An operation: its state, its steps, and how each is done and taken back.
#[async_trait]
pub trait Flow: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What it does and in which version.
    const KIND: &'static str;
    /// Its steps in order.
    const STEPS: &'static [Self::Step];
    /// False where there is no way back: it goes on until done or [stuck](OperationStatus::Stuck).
    const REVERSIBLE: bool = true;

    /// A step.
    type Step: Copy + fmt::Debug + Send + Sync + 'static;
    /// What steps act on.
    type Context: Send + Sync + 'static;

    /// The name of a step in the journal.
    fn name(step: Self::Step) -> &'static str;

    /// How long and how often a step is tried.
    fn limits(_step: Self::Step) -> Limits {
        Limits::default()
    }

    /// Does a step. May be called again after it succeeded.
    async fn run(&mut self, step: Self::Step, cx: &mut StepCx<'_, Self::Context>) -> Result<Next>;

    /// Takes a step back, whether it was done, half done or not at all. May be called again after it succeeded.
    async fn undo(&mut self, step: Self::Step, cx: &mut StepCx<'_, Self::Context>) -> Result<Next>;

    /// What the end of the operation means for its instance; written with its last journal row.
    fn ended(&self, end: End<'_>) -> InstanceChange;

    /// The secrets in its state, each with what it is bound to: another master key seals them anew.
    fn secrets(&mut self, _instance: InstanceId) -> Vec<(String, &mut Sealed)> {
        Vec::new()
    }

    /// The first journal row of this operation.
    fn begin(&self, id: OperationId) -> Result<NewOperation> {
        registry::first_row(self, id)
    }
}

/// What a step says when nothing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is done.
    Done,
    /// What it waits for has not come; call it again after this long.
    Wait(Duration),
}

impl<T> From<Ensured<T>> for Next {
    fn from(ensured: Ensured<T>) -> Self {
        match ensured {
            Ensured::Ready(_) => Self::Done,
            Ensured::Pending(pause) => Self::Wait(pause),
        }
    }
}

/// How long and how often a step is tried before its failure is final.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The time one try may take.
    pub deadline: Duration,
    /// The time all tries and waits may take together.
    pub patience: Duration,
    /// How many tries may fail with an error that another try may mend.
    pub tries: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(60), patience: Duration::from_secs(600), tries: 8 }
    }
}

/// How an operation ended.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Its final status.
    pub status: OperationStatus,
    /// The error, unless it succeeded.
    pub error: Option<&'a OperationError>,
    /// When.
    pub at: crate::time::Timestamp,
}

impl End<'_> {
    /// What failed and why, as one sentence.
    pub fn fault(&self, what: &str) -> String {
        match self.error {
            Some(why) => format!("{what}: {}", why.message),
            None => what.to_owned(),
        }
    }
}

/// What a step is given.
pub struct StepCx<'a, C> {
    /// What steps act on.
    pub context: &'a C,
    /// The instance.
    pub instance: InstanceId,
    /// The operation.
    pub operation: OperationId,
    /// The epoch of this claim, to fence former owners with.
    pub epoch: u64,
    /// Cancelled when the step should give up early. It is awaited all the same, to its deadline.
    pub cancel: CancellationToken,
    /// What to change about the instance when the step's outcome is journalled.
    pub change: InstanceChange,
    events: Events,
    clock: Clock,
}

impl<C> StepCx<'_, C> {
    /// A function that tells listeners how far the step is.
    pub fn progress_sink(&self) -> impl Fn(Progress) + Send + Sync + use<C> + 'static {
        let (events, clock, instance, operation) =
            (self.events.clone(), self.clock.clone(), self.instance, self.operation);
        move |progress| {
            events.publish(Event::new(clock.now(), instance, EventKind::Progress { operation, progress }));
        }
    }
}
