use std::{fmt, sync::Arc};

use async_trait::async_trait;
use futures_util::future::BoxFuture;

use crate::{
    error::{Error, Result},
    id::InstanceId,
};

/// The longest frame, in bytes.
pub const MAX_FRAME_BYTES: usize = 1 << 20;

/// How many frames a mailbox holds that nobody received. Those that were received and are not [done](Delivery::done) may
/// count as well.
pub const MAILBOX_FRAMES: usize = 1024;

/// How many bytes of them it holds at most.
pub const MAILBOX_BYTES: usize = 16 << 20;

/// Carries frames between the control plane and guests.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Makes sure that there is a mailbox here. One that exists is left as it is.
    async fn create(&self, address: &Address) -> Result<()>;

    /// Removes the mailbox with all it holds; whoever receives from it hears
    /// [`NotFound`](crate::error::Kind::NotFound). One that is absent is `Ok`.
    async fn remove(&self, address: &Address) -> Result<()>;

    /// Receives from a mailbox, until what is returned is dropped.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::error::Kind::NotFound) where there is no mailbox,
    /// [`Conflict`](crate::error::Kind::Conflict) where somebody else receives from it.
    async fn open(&self, address: &Address) -> Result<Box<dyn Mailbox>>;

    /// Takes a frame for a mailbox, behind those that it was called with before, and tells what became of it: `Ok` once
    /// it is there, from where it outlives whoever sent it, but not whoever keeps the mailbox. Nobody needs to wait for that;
    /// it is sent or not.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::error::Kind::NotFound) where there is no mailbox, [`Busy`](crate::error::Kind::Busy) where it
    /// holds [`MAILBOX_FRAMES`] already, or would hold more than [`MAILBOX_BYTES`], or where too many frames are on their
    /// way, [`Invalid`](crate::error::Kind::Invalid) for more than [`MAX_FRAME_BYTES`]. Of any other error it is unknown
    /// whether the frame arrived, unless its [effect](crate::error::Error::effect) says so.
    fn send(&self, address: &Address, frame: Vec<u8>) -> Sent;
}

/// What becomes of a frame.
pub type Sent = BoxFuture<'static, Result<()>>;

/// Refuses a frame that is too long.
pub(super) fn check_length(frame: &[u8]) -> Result<()> {
    let (bytes, most) = (frame.len(), MAX_FRAME_BYTES);
    if bytes > most {
        return Err(Error::invalid(format!("a frame has at most {most} bytes; this one has {bytes}")));
    }
    Ok(())
}

/// The one receiver of an address.
#[async_trait]
pub trait Mailbox: Send {
    /// Waits for the next frame. A call that is dropped loses none.
    async fn receive(&mut self) -> Result<Delivery>;
}

/// Where frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Who receives.
    pub side: Side,
    /// Of which instance.
    pub instance: InstanceId,
}

/// Who receives at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The instance's guest.
    Guest,
    /// The control plane, what the instance's guest sends. Each has a mailbox of its own here too, so that a guest that
    /// floods it is in nobody's way.
    Control,
}

impl Address {
    /// Where an instance's guest receives.
    pub fn guest(instance: InstanceId) -> Self {
        Self { side: Side::Guest, instance }
    }

    /// Where the control plane receives what an instance's guest sends.
    pub fn control(instance: InstanceId) -> Self {
        Self { side: Side::Control, instance }
    }
}

/// As queues and logs show it: `guest.9b2c7e1a-…`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Guest => "guest",
            Side::Control => "control",
        };
        write!(f, "{side}.{}", self.instance)
    }
}

/// A frame that was received and is still the mailbox's: dropped, it is delivered again, before those behind it.
pub struct Delivery {
    frame: Vec<u8>,
    keeper: Option<Arc<dyn Keeper>>,
    number: u64,
}

/// What takes deliveries back.
#[async_trait]
pub(crate) trait Keeper: Send + Sync {
    /// The frame of this delivery has had its effect.
    async fn done(&self, number: u64, bytes: usize) -> Result<()>;

    /// It has not.
    fn back(&self, number: u64, frame: Vec<u8>);
}

impl Delivery {
    pub(crate) fn new(frame: Vec<u8>, number: u64, keeper: Arc<dyn Keeper>) -> Self {
        Self { frame, keeper: Some(keeper), number }
    }

    /// What was sent.
    pub fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// Says that the frame has had its effect and is not to come again. Where this fails, it may.
    pub async fn done(mut self) -> Result<()> {
        match self.keeper.take() {
            Some(keeper) => keeper.done(self.number, self.frame.len()).await,
            None => Ok(()),
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.back(self.number, std::mem::take(&mut self.frame));
        }
    }
}

/// Without what was sent, which may be anything.
impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("bytes", &self.frame.len()).finish_non_exhaustive()
    }
}
