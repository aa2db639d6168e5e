//! The attachment of a guest: whether it can still be called.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The attachment of one guest to the control plane. Clones share one state.
///
/// It is lost once a queue of the guest is gone or has another consumer. The guest must then be
/// attached again.
#[derive(Clone)]
pub(super) struct Attachment {
    /// Stops the agent if it runs in this process.
    pub(super) stop: CancellationToken,
    lost: Arc<AtomicBool>,
    any_lost: Arc<Notify>,
}

impl Attachment {
    /// Creates an attachment that notifies `any_lost` when it is lost.
    pub(super) fn new(stop: CancellationToken, any_lost: Arc<Notify>) -> Self {
        Self { stop, lost: Arc::default(), any_lost }
    }

    pub(super) fn mark_lost(&self) {
        self.lost.store(true, Ordering::Release);
        self.any_lost.notify_one();
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }
}
