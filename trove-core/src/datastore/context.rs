use std::{fmt, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    error::{Error, Result},
    id::OperationId,
    model::Progress,
};

/// How often [`Cx::waiting`] tells that it goes on.
const WAITING_BEAT: Duration = Duration::from_secs(5);

/// Takes the progress of one call.
pub type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;

/// The context of one call to a driver: on whose behalf, how to stop it, whom to tell.
#[derive(Clone)]
pub struct Cx {
    operation: OperationId,
    step: &'static str,
    epoch: u64,
    cancel: CancellationToken,
    sink: Option<ProgressSink>,
}

impl Cx {
    /// The context of a call on behalf of an operation, by its owner of this epoch.
    pub fn new(operation: OperationId, epoch: u64) -> Self {
        Self { operation, step: "", epoch, cancel: CancellationToken::new(), sink: None }
    }

    /// The same for one step of the operation, where it makes a call more than once and means something else by it.
    #[must_use]
    pub fn with_step(mut self, step: &'static str) -> Self {
        self.step = step;
        self
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

    /// The operation this is done for. With the [step](Self::step) it is the key by which a repeated call is recognised.
    pub fn operation(&self) -> OperationId {
        self.operation
    }

    /// Which of the operation's steps this is; empty where it makes each call for one reason only.
    pub fn step(&self) -> &'static str {
        self.step
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

    /// Waits for work of which nothing can be told but that it goes on, and tells that every five seconds.
    pub async fn waiting<T>(&self, phase: &str, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            self.phase(phase);
            if let Ok(done) = tokio::time::timeout(WAITING_BEAT, work.as_mut()).await {
                return done;
            }
        }
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
        let mut shown = f.debug_struct("Cx");
        shown.field("operation", &self.operation).field("step", &self.step).field("epoch", &self.epoch);
        shown.finish_non_exhaustive()
    }
}
