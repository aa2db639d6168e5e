//! The event stream: what happens to instances, as it happens, to any number of listeners in this process.

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

/// The events since it was made. One that falls more than 1024 events behind loses the oldest.
#[derive(Debug)]
pub struct EventStream {
    receiver: broadcast::Receiver<Event>,
    closed: CancellationToken,
    missed: u64,
}

impl Events {
    /// A stream of its own, for an [`Engine`](crate::flow::Engine) that runs without the facade.
    pub fn new() -> Self {
        Self { sender: Arc::new(broadcast::Sender::new(CAPACITY)), closed: CancellationToken::new() }
    }

    pub(crate) fn publish(&self, event: Event) {
        // Nobody listening is no error.
        let _ = self.sender.send(event);
    }

    /// Ends all streams, once they have told what was published.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    /// All that is published from now on.
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
    /// The next event; `None` once the service has shut down.
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

    /// How many events were lost to falling behind.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}
