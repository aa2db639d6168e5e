//! The journal of operations. An operation is durable from its first row, which is written in the
//! same transaction as the state of its instance.
//!
//! - [`operations`]: begins, cancels, resumes and abandons operations, for the control plane.
//! - [`claims`]: claims operations and records their progress, for the flow engine.

mod claims;
mod operations;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

pub(super) use operations::insert_operation;

use crate::{
    error::Result,
    id::{ConfigurationId, InstanceId, OperationId},
    lifecycle::State,
    model::{AssignedSettings, Endpoint, Fault, Flavor, Instance, OperationError, OperationStatus},
    time::Timestamp,
};

/// Persists the progress of operations.
///
/// A claim raises the epoch of its operation. Each later write carries the epoch of the claim; the
/// write of a former owner fails with [`Fenced`](crate::error::Kind::Fenced).
#[async_trait]
pub(crate) trait Journal: Send + Sync {
    /// Claims a due operation that has no owner and is the first unfinished one of its instance.
    async fn claim(&self, owner: &str, now: Timestamp, lease_until: Timestamp) -> Result<Option<JournalEntry>>;

    /// Returns when the next operation is due or the next lease expires; `None` if no operation is
    /// unfinished.
    async fn next_due(&self) -> Result<Option<Timestamp>>;

    /// Extends the lease of a claim; returns whether and how the operation was cancelled.
    async fn renew(&self, id: OperationId, epoch: u64, lease_until: Timestamp) -> Result<Option<CancelMode>>;

    /// Writes the progress of an operation and the change to its instance, in one transaction.
    async fn record(&self, id: OperationId, instance: InstanceId, epoch: u64, record: &JournalRecord) -> Result<()>;
}

/// The result of inserting an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InsertOutcome {
    /// The operation was inserted.
    Inserted,
    /// The same request was made before; this is its operation.
    Existing(OperationId),
    /// The instance is no longer in the expected state, or another instance with its name vanished meanwhile; the
    /// caller reads it again.
    StateChanged,
}

/// An operation to begin.
#[derive(Clone, Debug)]
pub(crate) struct NewOperation {
    /// The id.
    pub(crate) id: OperationId,
    /// The kind, with its version.
    pub(crate) kind: &'static str,
    /// The first step.
    pub(crate) step: &'static str,
    /// The state of the flow.
    pub(crate) state: Json,
    /// The configuration group that the operation assigns to its instance. The group counts as in
    /// use from this row on.
    pub(crate) configuration: Option<ConfigurationId>,
    /// The epoch of the instance on which the request was decided: the operation begins only if no
    /// other has run since. `None` skips this check.
    pub(crate) expected_epoch: Option<u64>,
}

/// A claimed operation.
#[derive(Clone, Debug)]
pub(crate) struct JournalEntry {
    /// The id.
    pub(crate) id: OperationId,
    /// The instance.
    pub(crate) instance: InstanceId,
    /// The kind, with its version.
    pub(crate) kind: String,
    /// The state of the flow, as last recorded.
    pub(crate) state: Json,
    /// Whether the operation is being undone.
    pub(crate) undoing: bool,
    /// The current step.
    pub(crate) step: String,
    /// When the operation entered the step.
    pub(crate) step_since: Timestamp,
    /// How often the step failed.
    pub(crate) attempt: u32,
    /// The error that the operation or the last attempt failed with.
    pub(crate) error: Option<OperationError>,
    /// Whether and how the operation was cancelled.
    pub(crate) cancel: Option<CancelMode>,
    /// The epoch of this claim.
    pub(crate) epoch: u64,
}

/// How an operation was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CancelMode {
    /// Undo the operation.
    Undo,
    /// End the operation at its current step, because a deletion follows.
    Supersede,
}

/// The progress of an operation, as it is recorded.
#[derive(Clone, Debug)]
pub(crate) struct JournalRecord {
    /// The state of the flow; dropped when the operation has ended.
    pub(crate) state: Json,
    /// The status.
    pub(crate) status: OperationStatus,
    /// Whether the operation is being undone, or was when it ended.
    pub(crate) undoing: bool,
    /// The current step.
    pub(crate) step: String,
    /// When the operation entered the step.
    pub(crate) step_since: Timestamp,
    /// How often the step failed.
    pub(crate) attempt: u32,
    /// The error that the operation or the last attempt failed with.
    pub(crate) error: Option<OperationError>,
    /// When the lease of the owner expires; `None` releases the claim.
    pub(crate) lease_until: Option<Timestamp>,
    /// When a released operation is due again.
    pub(crate) wake_at: Timestamp,
    /// The time of this write.
    pub(crate) at: Timestamp,
    /// The change to the instance.
    pub(crate) change: InstanceChange,
}

/// A change to an instance.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct InstanceChange {
    /// The new state.
    pub(crate) state: Option<State>,
    /// The new endpoint; `Some(None)` clears it.
    pub(crate) endpoint: Option<Option<Endpoint>>,
    /// The new fault; `Some(None)` clears it.
    pub(crate) fault: Option<Option<Fault>>,
    /// The new settings and their configuration group, which replaces the former group.
    pub(crate) assigned_settings: Option<AssignedSettings>,
    /// The new release.
    pub(crate) release: Option<InstanceRelease>,
    /// The new flavor.
    pub(crate) flavor: Option<Flavor>,
    /// Removes the instance with everything that belongs to it.
    pub(crate) remove: bool,
}

/// The version and the image of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InstanceRelease {
    /// The name of the version in the registry of versions.
    pub(crate) version: String,
    /// The version number.
    pub(crate) number: String,
    /// The image.
    pub(crate) image: String,
}

impl From<&Instance> for InstanceRelease {
    fn from(instance: &Instance) -> Self {
        Self {
            version: instance.version.clone(),
            number: instance.version_number.clone(),
            image: instance.image.clone(),
        }
    }
}

impl InstanceChange {
    /// Returns a change to a state that clears the fault.
    pub(crate) fn to(state: State) -> Self {
        Self { state: Some(state), fault: Some(None), ..Self::default() }
    }

    /// Returns a change to a state with a fault.
    pub(crate) fn failed(state: State, message: impl Into<String>, at: Timestamp) -> Self {
        let fault = Fault { message: message.into(), at };
        Self { state: Some(state), fault: Some(Some(fault)), ..Self::default() }
    }
}
