//! Publishing frames to the broker, in order and with publisher confirms.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::{
    connection::{ConnectionPool, METHOD_TIMEOUT, PooledChannel, timed_out},
    route, translate,
};
use crate::{
    error::{Effect, Error, Kind, Result},
    rpc::{Address, SendFuture},
};

/// How long the broker may take to confirm a frame.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(15);
/// The maximum total size of the frames in flight, in bytes.
const CAPACITY: usize = 64 << 20;
/// The bytes that a frame is charged in addition to its size.
const FRAME_OVERHEAD: u32 = 1024;

/// Publishes frames in the order in which they are queued.
#[derive(Clone)]
pub(super) struct Publisher {
    // Unbounded, because `capacity` bounds the content.
    frames: mpsc::UnboundedSender<QueuedFrame>,
    capacity: Arc<Semaphore>,
}

struct QueuedFrame {
    address: Address,
    bytes: Vec<u8>,
    outcome: oneshot::Sender<Result<()>>,
    permit: OwnedSemaphorePermit,
}

/// Waits for the confirm of one published frame.
type PendingConfirm = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Publisher {
    pub(super) fn new(connections: Arc<ConnectionPool>) -> Self {
        let (frames, queued) = mpsc::unbounded_channel();
        tokio::spawn(run(queued, connections));
        Self { frames, capacity: Arc::new(Semaphore::new(CAPACITY)) }
    }

    /// Queues a frame.
    pub(super) fn publish(&self, address: Address, bytes: Vec<u8>) -> Result<SendFuture> {
        let cost = u32::try_from(bytes.len()).unwrap_or(u32::MAX).saturating_add(FRAME_OVERHEAD);
        let permit = self.capacity.clone().try_acquire_many_owned(cost);
        let permit = permit.map_err(|_| Error::busy("too many frames to the message broker are in flight"))?;
        let (outcome, received) = oneshot::channel();
        let ended = || Error::cancelled("the Tokio runtime of the transport was shut down");
        self.frames.send(QueuedFrame { address, bytes, outcome, permit }).map_err(|_| ended())?;
        Ok(Box::pin(async move {
            match timeout(CONFIRM_TIMEOUT, received).await {
                Ok(outcome) => outcome.unwrap_or_else(|_| Err(uncertain(ended()))),
                Err(_) => Err(uncertain(Error::timeout("the message broker did not confirm a frame in time"))),
            }
        }))
    }
}

/// Publishes queued frames and processes confirms until all publishers are dropped.
async fn run(mut frames: mpsc::UnboundedReceiver<QueuedFrame>, connections: Arc<ConnectionPool>) {
    let mut channel = None;
    let mut pending: FuturesUnordered<PendingConfirm> = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(()) = pending.next() => {}
            frame = frames.recv() => match frame {
                Some(frame) => start(frame, &mut channel, &connections, &mut pending).await,
                None => break,
            },
        }
    }
    while pending.next().await.is_some() {}
}

async fn start(
    frame: QueuedFrame,
    pooled: &mut Option<PooledChannel>,
    connections: &Arc<ConnectionPool>,
    pending: &mut FuturesUnordered<PendingConfirm>,
) {
    if frame.outcome.is_closed() {
        return;
    }
    if pooled.as_ref().is_none_or(|pooled| !pooled.channel.status().connected()) {
        *pooled = None;
        match confirm_channel(connections).await {
            Ok(opened) => *pooled = Some(opened),
            Err(error) => return drop(frame.outcome.send(Err(error))),
        }
    }
    let Some(channel) = pooled.as_ref().map(|pooled| pooled.channel.clone()) else { return };
    let mut confirm: PendingConfirm = Box::pin(publish(frame, channel, connections.clone()));
    // The first poll puts the frame into the queue of the connection, before all later frames.
    if (&mut confirm).now_or_never().is_none() {
        pending.push(confirm);
    }
}

/// Marks an error after which it is unknown whether the frame arrived.
fn uncertain(error: Error) -> Error {
    error.with_effect(Effect::Unknown)
}

/// Opens a channel in confirm mode.
async fn confirm_channel(connections: &ConnectionPool) -> Result<PooledChannel> {
    let pooled = connections.channel().await?;
    let selected = timeout(METHOD_TIMEOUT, pooled.channel.confirm_select(ConfirmSelectOptions::default())).await;
    let unreachable = |error: lapin::Error| Error::unavailable("could not reach the message broker").with_source(error);
    selected.map_err(|_| timed_out())?.map_err(unreachable)?;
    Ok(pooled)
}

async fn publish(frame: QueuedFrame, channel: Channel, connections: Arc<ConnectionPool>) {
    let QueuedFrame { address, bytes, outcome, permit } = frame;
    let (exchange, key) = route(address);
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let published = channel.basic_publish(exchange.into(), key.into(), options, &bytes, properties);
    let confirmed = async { published.await?.await };
    let result = match confirmed.await {
        Ok(Confirmation::Ack(_) | Confirmation::NotRequested) => Ok(()),
        Ok(Confirmation::Nack(_)) => Err(explain_nack(&address, &connections).await),
        Err(error) => match translate(&error, &address) {
            error if error.kind() == Kind::Unavailable => Err(uncertain(error)),
            error => Err(error),
        },
    };
    drop(permit);
    // The sender may not wait for the outcome.
    let _ = outcome.send(result);
}

/// Returns the reason of a negative acknowledgement: the queue is full or does not exist.
async fn explain_nack(address: &Address, connections: &ConnectionPool) -> Error {
    let declared = connections.with_channel(address, |channel| async move {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(address.to_string().into(), passive, FieldTable::default()).await.map(drop)
    });
    match declared.await {
        Ok(()) => Error::busy(format!("the queue {address} is full")),
        Err(error) => error,
    }
}
