//! Durable operations: sequences of idempotent steps, journaled in the store, that another owner
//! resumes after a crash.
//!
//! A [`Flow`] is a serde struct (its state), an enum of steps, one `run` and one `undo`. The
//! [`Engine`] claims an operation, runs one step after another and journals its position after
//! each, together with the changes of the instance.
//!
//! ```text
//!             run 0 -> run 1 -> ... -> run n -> Succeeded
//!               |        |               |
//!   cancelled, or failed permanently: undo starts AT that step
//!               v        v               v
//!  Failed <- undo 0 <- undo 1 <- ...  <- undo n          an undo (or a step of an irreversible flow) that keeps failing: Stuck
//! ```
//!
//! 1. Steps run **at least once**. They find their resources by a derived name, never by an id from
//!    an earlier run.
//! 2. Undo is idempotent too, and starts at the step that failed, which may have partially
//!    completed.
//! 3. [`Next::Wait`] journals when to resume and releases the claim: waiting costs a row, not a
//!    task, and survives a restart.
//! 4. A claim raises the instance's epoch, which fences writes of former owners.
//! 5. Each try of a step has a deadline, each step a limit of tries and of time ([`Limits`]). Every
//!    operation ends.
//! 6. Kinds carry a version (`instance.create/v1`). Step names are never removed or renamed.
//!
//! A transient error is retried with back-off, within the limits. Any other error of a step starts
//! the undo at that step; whether the step had an effect does not matter, because undo is
//! idempotent. An undo, or a step of an irreversible flow, is retried after any error but
//! `Unsupported`. The failure of an [optional](Limits::optional) step or undo is logged and ignored.

mod engine;
mod plan;
mod registry;
mod run;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use serde::{Serialize, de::DeserializeOwned};
use tokio_util::sync::CancellationToken;

pub(crate) use engine::Engine;
pub use engine::EngineSettings;
pub(crate) use registry::FlowRegistry;

use crate::{
    error::Result,
    events::Events,
    id::{InstanceId, OperationId},
    model::{Event, EventKind, OperationError, OperationStatus, Progress},
    secret::Sealed,
    store::{InstanceChange, NewOperation},
    time::Clock,
};

/// A kind of operation: its state, its steps, and how each is run and undone.
#[async_trait]
pub(crate) trait Flow: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name of the operation with its version.
    const KIND: &'static str;
    /// The steps in order.
    const STEPS: &'static [Self::Step];
    /// False if the flow cannot be undone: it is retried until done or
    /// [stuck](OperationStatus::Stuck).
    const REVERSIBLE: bool = true;

    /// The type of a step.
    type Step: Copy + fmt::Debug + Send + Sync + 'static;
    /// The context that steps run in, such as the control plane.
    type Context: Send + Sync + 'static;

    /// Returns the name of a step in the journal.
    fn name(step: Self::Step) -> &'static str;

    /// Returns the limits of a step.
    fn limits(_step: Self::Step) -> Limits {
        Limits::default()
    }

    /// Returns the limits of the undo of a step.
    fn undo_limits(step: Self::Step) -> Limits {
        Self::limits(step)
    }

    /// Runs a step. May be called again after it succeeded.
    async fn run(&mut self, step: Self::Step, cx: &mut StepCx<'_, Self::Context>) -> Result<Next>;

    /// Undoes a step, whether it was completed, partially completed or never started. May be called
    /// again after it succeeded.
    async fn undo(&mut self, step: Self::Step, cx: &mut StepCx<'_, Self::Context>) -> Result<Next>;

    /// Returns the change of the instance at the end of the operation, which is written with the
    /// last journal row.
    fn ended(&self, end: End<'_>) -> InstanceChange;

    /// Returns the secrets in the state with their owners, for rewrapping under another master key.
    fn secrets(&mut self, _instance: InstanceId) -> Vec<(String, &mut Sealed)> {
        Vec::new()
    }

    /// Returns the first journal row of the operation.
    fn begin(&self, id: OperationId) -> Result<NewOperation> {
        registry::first_row(self, id)
    }
}

/// The outcome of a step that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The step is done.
    Done,
    /// The step waits for something; call it again after this delay.
    Wait(Duration),
}

/// How long and how often a step is tried before its failure is permanent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The timeout of one try.
    pub(crate) deadline: Duration,
    /// The timeout of all tries and waits together.
    pub(crate) total_timeout: Duration,
    /// The maximum number of tries that may fail with a transient error.
    pub(crate) tries: u32,
    /// Whether the operation goes on if the step fails.
    pub(crate) optional: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(60), total_timeout: Duration::from_secs(600), tries: 8, optional: false }
    }
}

/// How an operation ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End<'a> {
    /// The final status.
    pub(crate) status: OperationStatus,
    /// The error, unless the operation succeeded.
    pub(crate) error: Option<&'a OperationError>,
    /// The time of the end.
    pub(crate) at: crate::time::Timestamp,
}

impl End<'_> {
    /// Returns `what`, followed by the error message.
    pub(crate) fn fault(&self, what: &str) -> String {
        match self.error {
            Some(error) => format!("{what}: {}", error.message),
            None => what.to_owned(),
        }
    }
}

/// The context of one run of a step.
pub(crate) struct StepCx<'a, C> {
    /// The context of the flow.
    pub(crate) context: &'a C,
    /// The instance.
    pub(crate) instance: InstanceId,
    /// The operation.
    pub(crate) operation: OperationId,
    /// The epoch of this claim, which fences former owners.
    pub(crate) epoch: u64,
    /// Cancelled when the step should end early. The engine still awaits it, up to its deadline.
    pub(crate) cancel: CancellationToken,
    /// The change of the instance that is written when the outcome of the step is journaled.
    pub(crate) change: InstanceChange,
    events: Events,
    clock: Clock,
}

impl<C> StepCx<'_, C> {
    /// Returns a function that publishes the progress of the step as an event.
    pub(crate) fn progress_sink(&self) -> impl Fn(Progress) + Send + Sync + use<C> + 'static {
        let (events, clock, instance, operation) =
            (self.events.clone(), self.clock.clone(), self.instance, self.operation);
        move |progress| {
            events.publish(Event::new(clock.now(), instance, EventKind::Progress { operation, progress }));
        }
    }
}
