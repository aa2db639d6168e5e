use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    future::ready,
    sync::Arc,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::transport::{
    Acknowledger, Address, Delivery, QUEUE_BYTES, QUEUE_FRAMES, QueueConsumer, SendFuture, Transport, check_length,
};
use crate::error::{Error, Result};

/// The transport to guests in this process: queues in memory. Clones share their queues.
///
/// It is also a [`MessageBroker`](super::MessageBroker), the default of `Trove::builder`.
#[derive(Clone, Default)]
pub struct InProcess {
    queues: Arc<Mutex<HashMap<Address, Arc<Queue>>>>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    changed: Notify,
}

#[derive(Default)]
struct QueueState {
    /// The frames that wait, by sequence number.
    ready: BTreeMap<u64, Vec<u8>>,
    /// The number of frames that were received and not acknowledged.
    unacknowledged: usize,
    /// The total size of both, in bytes.
    bytes: usize,
    next: u64,
    has_consumer: bool,
    removed: bool,
}

struct InProcessConsumer(Arc<Queue>);

impl InProcess {
    /// Creates a transport without queues.
    pub fn new() -> Self {
        Self::default()
    }

    fn enqueue(&self, address: &Address, frame: Vec<u8>) -> Result<()> {
        check_length(&frame)?;
        let queue = self.queue(address)?;
        let mut state = queue.state.lock();
        if state.removed {
            return Err(no_queue(address));
        }
        let frames = state.ready.len() + state.unacknowledged;
        if frames >= QUEUE_FRAMES || state.bytes + frame.len() > QUEUE_BYTES {
            return Err(Error::busy(format!("the queue {address} is full")));
        }
        let sequence = state.next;
        state.next += 1;
        state.bytes += frame.len();
        state.ready.insert(sequence, frame);
        queue.changed.notify_one();
        Ok(())
    }

    fn queue(&self, address: &Address) -> Result<Arc<Queue>> {
        self.queues.lock().get(address).cloned().ok_or_else(|| no_queue(address))
    }
}

#[async_trait]
impl Transport for InProcess {
    async fn create(&self, address: &Address) -> Result<()> {
        self.queues.lock().entry(*address).or_default();
        Ok(())
    }

    async fn remove(&self, address: &Address) -> Result<()> {
        let removed = self.queues.lock().remove(address);
        if let Some(queue) = removed {
            let mut state = queue.state.lock();
            state.ready.clear();
            state.removed = true;
            queue.changed.notify_one();
        }
        Ok(())
    }

    async fn open(&self, address: &Address) -> Result<Box<dyn QueueConsumer>> {
        let queue = self.queue(address)?;
        {
            let mut state = queue.state.lock();
            if state.has_consumer {
                return Err(Error::conflict(format!("the queue {address} has another consumer")));
            }
            state.has_consumer = true;
        }
        Ok(Box::new(InProcessConsumer(queue)))
    }

    fn send(&self, address: &Address, frame: Vec<u8>) -> SendFuture {
        Box::pin(ready(self.enqueue(address, frame)))
    }
}

#[async_trait]
impl QueueConsumer for InProcessConsumer {
    async fn receive(&mut self) -> Result<Delivery> {
        loop {
            {
                let mut state = self.0.state.lock();
                if state.removed {
                    return Err(Error::not_found("the queue was deleted"));
                }
                if let Some((sequence, frame)) = state.ready.pop_first() {
                    state.unacknowledged += 1;
                    return Ok(Delivery::new(frame, sequence, self.0.clone()));
                }
            }
            // `notify_one` stores a permit, so a frame that came after the check is not missed.
            self.0.changed.notified().await;
        }
    }
}

impl Drop for InProcessConsumer {
    fn drop(&mut self) {
        self.0.state.lock().has_consumer = false;
    }
}

#[async_trait]
impl Acknowledger for Queue {
    async fn acknowledge(&self, _tag: u64, bytes: usize) -> Result<()> {
        let mut state = self.state.lock();
        state.unacknowledged -= 1;
        state.bytes -= bytes;
        Ok(())
    }

    fn requeue(&self, tag: u64, frame: Vec<u8>) {
        let mut state = self.state.lock();
        state.unacknowledged -= 1;
        if !state.removed {
            state.ready.insert(tag, frame);
            self.changed.notify_one();
        }
    }
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcess").finish_non_exhaustive()
    }
}

fn no_queue(address: &Address) -> Error {
    Error::not_found(format!("there is no queue {address}"))
}
