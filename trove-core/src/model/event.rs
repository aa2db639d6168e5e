use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Health, OperationError, OperationStatus, SettingsState};
use crate::{
    id::{InstanceId, OperationId},
    lifecycle::State,
};

/// An event of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Event {
    /// The time of the event.
    pub at: Timestamp,
    /// The instance.
    pub instance: InstanceId,
    /// The kind of the event with its data.
    #[serde(flatten)]
    pub kind: EventKind,
}

impl Event {
    /// Creates an event.
    pub fn new(at: Timestamp, instance: InstanceId, kind: EventKind) -> Self {
        Self { at, instance, kind }
    }
}

/// The kind of an [`Event`] with its data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// The state changed.
    State {
        /// The new state.
        state: State,
    },
    /// The health reported by the guest changed.
    Health {
        /// The new health.
        health: Health,
    },
    /// The settings state reported by the guest changed.
    Settings {
        /// The new settings state.
        #[serde(flatten)]
        state: SettingsState,
    },
    /// The instance was deleted.
    Deleted,
    /// An operation entered a step.
    Step {
        /// The operation.
        operation: OperationId,
        /// The kind of the operation.
        operation_kind: String,
        /// The step.
        step: String,
        /// The number of the step, starting at 1.
        number: u32,
        /// The number of steps.
        of: u32,
        /// Whether the step is being undone.
        undo: bool,
    },
    /// A step made progress.
    Progress {
        /// The operation.
        operation: OperationId,
        /// The progress.
        #[serde(flatten)]
        progress: Progress,
    },
    /// An attempt of a step failed. The step is retried or, if the error is permanent, the
    /// operation is undone.
    Failed {
        /// The operation.
        operation: OperationId,
        /// The step.
        step: String,
        /// The error.
        error: OperationError,
    },
    /// An operation ended.
    Ended {
        /// The operation.
        operation: OperationId,
        /// The kind of the operation.
        operation_kind: String,
        /// The final status.
        status: OperationStatus,
        /// The error, unless the operation succeeded.
        error: Option<OperationError>,
    },
    /// Databases, users or privileges inside the instance were changed by a request.
    Accounts {
        /// The name of the call.
        action: String,
    },
}

/// The progress of a long step. It increases, but does not necessarily reach the total.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The current phase as a short phrase: `initialize data directory`.
    pub phase: String,
    /// The completed amount in `unit`s.
    pub done: u64,
    /// The total amount, if it is known.
    pub total: Option<u64>,
    /// The unit; empty if nothing is counted.
    pub unit: String,
}
