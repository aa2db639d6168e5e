//! The event stream: broadcasts what happens to instances to any number of subscribers in this
//! process.

use std::sync::Arc;

use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

use crate::model::Event;

const CAPACITY: usize = 1024;

/// Publishes events. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Events {
    sender: Arc<broadcast::Sender<Event>>,
    closed: CancellationToken,
}

/// A subscription to events. A subscriber that lags behind by more than 1024 events loses the
/// oldest ones.
#[derive(Debug)]
pub struct EventStream {
    receiver: broadcast::Receiver<Event>,
    closed: CancellationToken,
    missed: u64,
}

impl Events {
    /// Creates a channel without subscribers.
    pub fn new() -> Self {
        Self { sender: Arc::new(broadcast::Sender::new(CAPACITY)), closed: CancellationToken::new() }
    }

    pub(crate) fn publish(&self, event: Event) {
        // Fails if there are no subscribers.
        let _ = self.sender.send(event);
    }

    /// Closes all subscriptions after they have delivered the published events.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    /// Subscribes to the events that are published from now on.
    pub fn subscribe(&self) -> EventStream {
        EventStream { receiver: self.sender.subscribe(), closed: self.closed.clone(), missed: 0 }
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

impl EventStream {
    /// Waits for the next event; returns `None` after the service has shut down.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let received = tokio::select! {
                biased;
                received = self.receiver.recv() => received,
                () = self.closed.cancelled() => return None,
            };
            match received {
                Ok(event) => return Some(event),
                Err(RecvError::Lagged(count)) => self.missed += count,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// Returns the number of events that were lost because the subscriber lagged behind.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}
