use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Health, OperationError, OperationStatus, SettingsState};
use crate::{
    id::{InstanceId, OperationId},
    lifecycle::State,
};

/// Something that happened to an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// To which instance.
    pub instance: InstanceId,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

impl Event {
    /// An event.
    pub fn new(at: Timestamp, instance: InstanceId, kind: EventKind) -> Self {
        Self { at, instance, kind }
    }
}

/// What an [`Event`] says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// The control plane does something else with the instance now.
    State {
        /// What it does.
        state: State,
    },
    /// The guest reports another health than before.
    Health {
        /// What it reports.
        health: Health,
    },
    /// The guest reports that its settings stand otherwise than before.
    Settings {
        /// How they stand.
        #[serde(flatten)]
        state: SettingsState,
    },
    /// The instance is gone.
    Deleted,
    /// An operation entered a step.
    Step {
        /// The operation.
        operation: OperationId,
        /// Its kind.
        operation_kind: String,
        /// The step.
        step: String,
        /// Which one it is, from 1.
        number: u32,
        /// Of how many.
        of: u32,
        /// True where the step is being taken back.
        undo: bool,
    },
    /// A step goes on.
    Progress {
        /// The operation.
        operation: OperationId,
        /// How far it is.
        #[serde(flatten)]
        progress: Progress,
    },
    /// A try of a step failed. It is tried again or, where that cannot help, taken back.
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
        /// Its kind.
        operation_kind: String,
        /// How.
        status: OperationStatus,
        /// The error, unless it succeeded.
        error: Option<OperationError>,
    },
    /// Databases, users or rights inside the instance were changed on request.
    Accounts {
        /// Which call changed them.
        action: String,
    },
}

/// How far a long step is. It grows; it does not promise to reach its total.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done, as a short phrase: `initialise data directory`.
    pub phase: String,
    /// How much of it is done, in `unit`s.
    pub done: u64,
    /// How much there is to do, where that is known.
    pub total: Option<u64>,
    /// What is counted; empty where nothing is.
    pub unit: String,
}
