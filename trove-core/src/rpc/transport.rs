use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::future::BoxFuture;

use super::BrokerLogin;
use crate::{
    error::{Error, Result},
    id::InstanceId,
};

/// The maximum size of a frame, in bytes.
pub const MAX_FRAME_BYTES: usize = 1 << 20;

/// The maximum number of frames that wait in a queue. Frames that were received and not yet
/// [acknowledged](Delivery::acknowledge) may count as well.
pub const QUEUE_FRAMES: usize = 1024;

/// The maximum total size of the frames in a queue, in bytes.
pub const QUEUE_BYTES: usize = 16 << 20;

/// Bounds of the delay before a transport that failed is tried again. Jitter at most doubles it.
const MIN_RECONNECT_DELAY: Duration = Duration::from_millis(50);
const MAX_RECONNECT_DELAY: Duration = Duration::from_millis(2500);

/// Carries frames between the control plane and guests, through one queue for each [`Address`].
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use trove_core::{
///     id::InstanceId,
///     rpc::{Address, InProcess, Transport},
/// };
///
/// let (transport, address) = (InProcess::new(), Address::guest(InstanceId::new_v4()));
/// transport.create(&address).await?;
/// transport.send(&address, b"frame".to_vec()).await?;
///
/// let mut consumer = transport.open(&address).await?;
/// let delivery = consumer.receive().await?;
/// assert_eq!(delivery.frame(), b"frame");
/// delivery.acknowledge().await?;
/// # Ok::<_, trove_core::error::Error>(())
/// # }).unwrap();
/// ```
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Creates the queue of an address. An existing queue is left unchanged.
    async fn create(&self, address: &Address) -> Result<()>;

    /// Deletes the queue of an address with all its frames; its consumer then fails with
    /// [`NotFound`](crate::error::Kind::NotFound). Deleting an absent queue is `Ok`.
    async fn remove(&self, address: &Address) -> Result<()>;

    /// Opens the exclusive consumer of a queue. Dropping the consumer closes it.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::error::Kind::NotFound) if there is no such queue,
    /// [`Conflict`](crate::error::Kind::Conflict) if the queue has another consumer.
    async fn open(&self, address: &Address) -> Result<Box<dyn QueueConsumer>>;

    /// Enqueues a frame and returns a future of the outcome.
    ///
    /// Frames arrive in the order in which this method is called. The outcome is `Ok` once the
    /// frame is in the queue: from then on it survives its sender, but not a restart of the broker.
    /// The future need not be polled; the frame is sent or not, regardless.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::error::Kind::NotFound) if there is no such queue,
    /// [`Busy`](crate::error::Kind::Busy) if the queue has [`QUEUE_FRAMES`] frames, would exceed
    /// [`QUEUE_BYTES`], or if too many frames are in flight,
    /// [`Invalid`](crate::error::Kind::Invalid) if the frame exceeds [`MAX_FRAME_BYTES`]. After any
    /// other error it is unknown whether the frame arrived, unless the
    /// [effect](crate::error::Error::effect) of the error says so.
    fn send(&self, address: &Address, frame: Vec<u8>) -> SendFuture;

    /// Replaces the logins to use from the next connection on: the last one or, if the broker
    /// rejects it, the one before it. Does nothing if the transport needs no login.
    fn set_logins(&self, _logins: Vec<BrokerLogin>) {}
}

/// The outcome of [`Transport::send`].
pub type SendFuture = BoxFuture<'static, Result<()>>;

/// Checks that a frame does not exceed [`MAX_FRAME_BYTES`].
pub(super) fn check_length(frame: &[u8]) -> Result<()> {
    let bytes = frame.len();
    if bytes > MAX_FRAME_BYTES {
        return Err(Error::invalid(format!("a frame of {bytes} bytes exceeds the limit of {MAX_FRAME_BYTES} bytes")));
    }
    Ok(())
}

/// Returns the delays between attempts to use a transport that failed.
pub(crate) fn reconnect_delays() -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::new()
        .with_min_delay(MIN_RECONNECT_DELAY)
        .with_max_delay(MAX_RECONNECT_DELAY)
        .with_jitter()
        .without_max_times()
        .build()
}

/// Returns the next of the [`reconnect_delays`].
pub(crate) fn next_delay(delays: &mut impl Iterator<Item = Duration>) -> Duration {
    delays.next().unwrap_or(MAX_RECONNECT_DELAY)
}

/// The exclusive consumer of a queue.
#[async_trait]
pub trait QueueConsumer: Send {
    /// Waits for the next frame. Cancelling a call loses no frame.
    async fn receive(&mut self) -> Result<Delivery>;
}

/// The address of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// The side that receives.
    pub side: Side,
    /// The instance.
    pub instance: InstanceId,
}

/// A side of the connection between the control plane and a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The guest of the instance.
    Guest,
    /// The control plane. It has one queue for each guest, so that a guest that fills its queue
    /// does not affect others.
    Control,
}

impl Address {
    /// Returns the address at which the guest of an instance receives.
    pub fn guest(instance: InstanceId) -> Self {
        Self { side: Side::Guest, instance }
    }

    /// Returns the address at which the control plane receives from the guest of an instance.
    pub fn control(instance: InstanceId) -> Self {
        Self { side: Side::Control, instance }
    }
}

/// Formats the address as the name of its queue: `guest.9b2c7e1a-…`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Guest => "guest",
            Side::Control => "control",
        };
        write!(f, "{side}.{}", self.instance)
    }
}

/// A received frame. Dropping it without [acknowledging](Self::acknowledge) it requeues the frame
/// before those that follow it.
pub struct Delivery {
    frame: Vec<u8>,
    acknowledger: Option<Arc<dyn Acknowledger>>,
    tag: u64,
}

/// Acknowledges or requeues deliveries.
#[async_trait]
pub(crate) trait Acknowledger: Send + Sync {
    /// Acknowledges the delivery with this tag.
    async fn acknowledge(&self, tag: u64, bytes: usize) -> Result<()>;

    /// Returns the frame of the delivery with this tag to the queue.
    fn requeue(&self, tag: u64, frame: Vec<u8>);
}

impl Delivery {
    pub(crate) fn new(frame: Vec<u8>, tag: u64, acknowledger: Arc<dyn Acknowledger>) -> Self {
        Self { frame, acknowledger: Some(acknowledger), tag }
    }

    /// Returns the frame.
    pub fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// Acknowledges the frame: it is processed and must not be redelivered. After an error it may
    /// be.
    pub async fn acknowledge(mut self) -> Result<()> {
        match self.acknowledger.take() {
            Some(acknowledger) => acknowledger.acknowledge(self.tag, self.frame.len()).await,
            None => Ok(()),
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(acknowledger) = self.acknowledger.take() {
            acknowledger.requeue(self.tag, std::mem::take(&mut self.frame));
        }
    }
}

/// Formats the size of the frame, not its content.
impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("bytes", &self.frame.len()).finish_non_exhaustive()
    }
}
