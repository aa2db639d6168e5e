use std::{fmt, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    error::{Error, Result},
    id::OperationId,
    model::Progress,
};

/// The interval at which [`Cx::waiting`] reports progress.
const WAITING_INTERVAL: Duration = Duration::from_secs(5);

/// Receives the progress of one call.
pub type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;

/// The context of one call to a driver: the operation and its owner, cancellation and progress.
///
/// ```
/// use tokio_util::sync::CancellationToken;
/// use trove_core::{datastore::Cx, id::OperationId};
///
/// let cancel = CancellationToken::new();
/// let cx = Cx::new(OperationId::new_v4(), 3).with_step("restart").with_cancel(cancel.clone());
/// assert!(cx.check().is_ok());
/// cancel.cancel();
/// assert!(cx.check().is_err());
/// ```
#[derive(Clone)]
pub struct Cx {
    operation: OperationId,
    step: &'static str,
    epoch: u64,
    cancel: CancellationToken,
    sink: Option<ProgressSink>,
}

impl Cx {
    /// Creates the context of a call for an operation, by the owner with this fencing epoch.
    pub fn new(operation: OperationId, epoch: u64) -> Self {
        Self { operation, step: "", epoch, cancel: CancellationToken::new(), sink: None }
    }

    /// Sets the step of the operation, for an operation that makes the same call several times with
    /// different meanings.
    #[must_use]
    pub fn with_step(mut self, step: &'static str) -> Self {
        self.step = step;
        self
    }

    /// Sets the token that cancels the call.
    #[must_use]
    pub fn with_cancel(mut self, cancel: CancellationToken) -> Self {
        self.cancel = cancel;
        self
    }

    /// Sets the receiver of progress reports.
    #[must_use]
    pub fn with_progress(mut self, sink: ProgressSink) -> Self {
        self.sink = Some(sink);
        self
    }

    /// Returns the operation. Together with the [step](Self::step), it is the key that identifies a
    /// repeated call.
    pub fn operation(&self) -> OperationId {
        self.operation
    }

    /// Returns the step of the operation, empty unless it was set.
    pub fn step(&self) -> &'static str {
        self.step
    }

    /// Returns the fencing epoch of the caller.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Resolves when the call is cancelled.
    pub async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    /// Returns [`Cancelled`](crate::error::Kind::Cancelled) if the call is cancelled.
    pub fn check(&self) -> Result<()> {
        if self.cancel.is_cancelled() { Err(Error::cancelled("the operation was cancelled")) } else { Ok(()) }
    }

    /// Awaits work without measurable progress, and reports its phase every five seconds.
    pub async fn waiting<T>(&self, phase: &str, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            self.phase(phase);
            if let Ok(done) = tokio::time::timeout(WAITING_INTERVAL, work.as_mut()).await {
                return done;
            }
        }
    }

    /// Reports that a phase of the work has started.
    pub fn phase(&self, phase: &str) {
        self.progress(phase, 0, None, "");
    }

    /// Reports the progress of a phase: `done` of `total` units.
    pub fn progress(&self, phase: &str, done: u64, total: Option<u64>, unit: &str) {
        if let Some(sink) = &self.sink {
            sink(Progress { phase: phase.to_owned(), done, total, unit: unit.to_owned() });
        }
    }
}

impl fmt::Debug for Cx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Cx");
        shown.field("operation", &self.operation).field("step", &self.step).field("epoch", &self.epoch);
        shown.finish_non_exhaustive()
    }
}
