use std::{fmt, sync::Arc};

use tokio_util::sync::CancellationToken;

use crate::{
    error::{Error, Result},
    id::OperationId,
    model::Progress,
};

/// Takes the progress of one call.
pub type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;

/// The context of one call to a driver: on whose behalf, how to stop it, whom to tell.
#[derive(Clone)]
pub struct Cx {
    operation: OperationId,
    epoch: u64,
    cancel: CancellationToken,
    sink: Option<ProgressSink>,
}

impl Cx {
    /// The context of a call on behalf of an operation, by its owner of this epoch.
    pub fn new(operation: OperationId, epoch: u64) -> Self {
        Self { operation, epoch, cancel: CancellationToken::new(), sink: None }
    }

    /// The same with a token that cancels it.
    #[must_use]
    pub fn with_cancel(mut self, cancel: CancellationToken) -> Self {
        self.cancel = cancel;
        self
    }

    /// The same with a listener for its progress.
    #[must_use]
    pub fn with_progress(mut self, sink: ProgressSink) -> Self {
        self.sink = Some(sink);
        self
    }

    /// The operation this is done for; a repeated call for it is recognised by this.
    pub fn operation(&self) -> OperationId {
        self.operation
    }

    /// The fencing epoch of the caller.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Ends when the call should be given up.
    pub async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    /// An error of kind [`Cancelled`](crate::error::Kind::Cancelled) where the call should be given up.
    pub fn check(&self) -> Result<()> {
        if self.cancel.is_cancelled() { Err(Error::cancelled("the operation was cancelled")) } else { Ok(()) }
    }

    /// Tells that a phase of the work has begun.
    pub fn phase(&self, phase: &str) {
        self.progress(phase, 0, None, "");
    }

    /// Tells how far a phase is: `done` of `total` units.
    pub fn progress(&self, phase: &str, done: u64, total: Option<u64>, unit: &str) {
        if let Some(sink) = &self.sink {
            sink(Progress { phase: phase.to_owned(), done, total, unit: unit.to_owned() });
        }
    }
}

impl fmt::Debug for Cx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cx").field("operation", &self.operation).field("epoch", &self.epoch).finish_non_exhaustive()
    }
}
