use std::{
    collections::{BTreeMap, HashMap},
    future::ready,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::transport::{
    Address, Delivery, Keeper, MAILBOX_BYTES, MAILBOX_FRAMES, Mailbox, Sent, Transport, check_length,
};
use crate::error::{Error, Result};

/// The transport to guests that live in this process: mailboxes in memory. Clones are the same one.
#[derive(Clone, Default)]
pub struct InProcess {
    queues: Arc<Mutex<HashMap<Address, Arc<Queue>>>>,
}

/// What is in one mailbox.
#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// By the order in which they were sent.
    waiting: BTreeMap<u64, Vec<u8>>,
    /// How many were received and are not done.
    out: usize,
    /// How long all of them are together.
    bytes: usize,
    next: u64,
    open: bool,
    removed: bool,
}

/// The receiver of a mailbox.
struct Receiver(Arc<Queue>);

impl InProcess {
    /// A transport without mailboxes.
    pub fn new() -> Self {
        Self::default()
    }

    fn put(&self, address: &Address, frame: Vec<u8>) -> Result<()> {
        check_length(&frame)?;
        let queue = self.queue(address)?;
        let mut state = queue.state();
        if state.removed {
            return Err(absent(address));
        }
        let full = state.waiting.len() + state.out >= MAILBOX_FRAMES || state.bytes + frame.len() > MAILBOX_BYTES;
        if full {
            return Err(Error::busy(format!("the mailbox of {address} is full")));
        }
        let number = state.next;
        state.next += 1;
        state.bytes += frame.len();
        state.waiting.insert(number, frame);
        queue.changed.notify_one();
        Ok(())
    }

    fn queue(&self, address: &Address) -> Result<Arc<Queue>> {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.get(address).cloned().ok_or_else(|| absent(address))
    }
}

#[async_trait]
impl Transport for InProcess {
    async fn create(&self, address: &Address) -> Result<()> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).entry(*address).or_default();
        Ok(())
    }

    async fn remove(&self, address: &Address) -> Result<()> {
        let removed = self.queues.lock().unwrap_or_else(PoisonError::into_inner).remove(address);
        if let Some(queue) = removed {
            let mut state = queue.state();
            state.waiting.clear();
            state.removed = true;
            queue.changed.notify_one();
        }
        Ok(())
    }

    async fn open(&self, address: &Address) -> Result<Box<dyn Mailbox>> {
        let queue = self.queue(address)?;
        let mut state = queue.state();
        if state.open {
            return Err(Error::conflict(format!("somebody else receives at {address}")));
        }
        state.open = true;
        drop(state);
        Ok(Box::new(Receiver(queue)))
    }

    fn send(&self, address: &Address, frame: Vec<u8>) -> Sent {
        Box::pin(ready(self.put(address, frame)))
    }
}

#[async_trait]
impl Mailbox for Receiver {
    async fn receive(&mut self) -> Result<Delivery> {
        loop {
            {
                let mut state = self.0.state();
                if state.removed {
                    return Err(Error::not_found("the mailbox was removed"));
                }
                if let Some((number, frame)) = state.waiting.pop_first() {
                    state.out += 1;
                    return Ok(Delivery::new(frame, number, self.0.clone()));
                }
            }
            // Keeps a permit, so that what came between the look and this is not waited for.
            self.0.changed.notified().await;
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.0.state().open = false;
    }
}

#[async_trait]
impl Keeper for Queue {
    async fn done(&self, _number: u64, bytes: usize) -> Result<()> {
        let mut state = self.state();
        state.out -= 1;
        state.bytes -= bytes;
        Ok(())
    }

    fn back(&self, number: u64, frame: Vec<u8>) {
        let mut state = self.state();
        state.out -= 1;
        if !state.removed {
            state.waiting.insert(number, frame);
            self.changed.notify_one();
        }
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn absent(address: &Address) -> Error {
    Error::not_found(format!("there is no mailbox {address}"))
}
