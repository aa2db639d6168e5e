use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Kind},
    id::{InstanceId, OperationId},
};

/// An operation on an instance, as its journal shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Operation {
    /// Its identity.
    pub id: OperationId,
    /// The instance it is about.
    pub instance: InstanceId,
    /// What it does and in which version: `instance.create/v1`.
    pub kind: String,
    /// How far it is.
    pub status: OperationStatus,
    /// The step it is at, or ended at.
    pub step: String,
    /// How often the step was tried and failed.
    pub attempt: u32,
    /// The error that made it fail, or that the step's last try ended with.
    pub error: Option<OperationError>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its journal was last written.
    pub updated_at: Timestamp,
}

/// Why an operation failed, or a try of its step did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationError {
    /// What to act on.
    pub kind: Kind,
    /// What to read. Holds no secret.
    pub message: String,
}

impl OperationError {
    /// Of this kind, with this message.
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

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationStatus {
    /// It goes forward, now or when what it waits for has come.
    Running,
    /// It failed or was cancelled and takes back what it did.
    Undoing,
    /// It did what was asked.
    Succeeded,
    /// It failed and took back what it did.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// It can neither go on nor be taken back without help: resume or abandon it.
    Stuck,
}

impl OperationStatus {
    /// True where nothing more will happen by itself.
    pub fn is_final(self) -> bool {
        match self {
            Self::Running | Self::Undoing => false,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Stuck => true,
        }
    }
}
