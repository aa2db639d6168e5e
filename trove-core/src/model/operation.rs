use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Kind},
    id::{InstanceId, OperationId},
};

/// An operation on an instance, as recorded in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Operation {
    /// The id.
    pub id: OperationId,
    /// The instance.
    pub instance: InstanceId,
    /// The kind, with its version: `instance.create/v1`.
    pub kind: String,
    /// The status.
    pub status: OperationStatus,
    /// The current or last step.
    pub step: String,
    /// How often the step failed.
    pub attempt: u32,
    /// The error that the operation or the last attempt of the step failed with.
    pub error: Option<OperationError>,
    /// When the operation was requested.
    pub created_at: Timestamp,
    /// When the journal was last written.
    pub updated_at: Timestamp,
}

/// The error of an operation or of an attempt of its step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationError {
    /// The kind, for callers to match on.
    pub kind: Kind,
    /// The message for the user. Contains no secrets.
    pub message: String,
}

impl OperationError {
    /// Creates an error.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl From<&Error> for OperationError {
    fn from(error: &Error) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

impl From<OperationError> for Error {
    fn from(error: OperationError) -> Self {
        Self::of(error.kind, error.message)
    }
}

/// The status of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationStatus {
    /// The operation runs or waits for its next attempt.
    Running,
    /// The operation failed or was cancelled and is being undone.
    Undoing,
    /// The operation succeeded.
    Succeeded,
    /// The operation failed and was undone, or was abandoned.
    Failed,
    /// The operation was cancelled.
    Cancelled,
    /// The operation can be neither completed nor undone. An operator resumes or abandons it.
    Stuck,
}

impl OperationStatus {
    /// Returns whether the status changes no more without a request.
    pub fn is_final(self) -> bool {
        match self {
            Self::Running | Self::Undoing => false,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Stuck => true,
        }
    }
}
