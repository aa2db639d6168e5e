//! How long a guest is there, and can be called.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What a guest hangs by. Clones are the same one. It is cut once a mailbox of the guest is gone or somebody else's; the
/// guest has to be attached anew then.
#[derive(Clone)]
pub(super) struct Lifeline {
    /// Ends the agent, where it is in this process.
    pub(super) stop: CancellationToken,
    cut: Arc<AtomicBool>,
    noticed: Arc<Notify>,
}

impl Lifeline {
    /// One of several, of which the cuts are noticed together.
    pub(super) fn new(stop: CancellationToken, noticed: Arc<Notify>) -> Self {
        Self { stop, cut: Arc::default(), noticed }
    }

    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        self.noticed.notify_one();
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }
}
