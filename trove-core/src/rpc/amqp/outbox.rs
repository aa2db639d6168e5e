//! What is on its way to the broker.

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
    broker::{ANSWER_LIMIT, Connections, Wire},
    route, translate,
};
use crate::{
    error::{Effect, Error, Kind, Result},
    rpc::{Address, Sent},
};

/// How long it may take until the broker has a frame.
const SEND_LIMIT: Duration = Duration::from_secs(15);
/// How many bytes may be on their way, and what a frame counts beside its own.
const ROOM: usize = 64 << 20;
const FRAME_COST: u32 = 1024;

/// Where frames are left to be sent, in the order in which they came.
#[derive(Clone)]
pub(super) struct Outbox {
    frames: mpsc::UnboundedSender<Frame>,
    // Bounds what is in the queue.
    room: Arc<Semaphore>,
}

struct Frame {
    address: Address,
    bytes: Vec<u8>,
    outcome: oneshot::Sender<Result<()>>,
    room: OwnedSemaphorePermit,
}

/// A frame until the broker has said what became of it.
type Going = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Outbox {
    pub(super) fn new(connections: Arc<Connections>) -> Self {
        let (frames, waiting) = mpsc::unbounded_channel();
        tokio::spawn(carry(waiting, connections));
        Self { frames, room: Arc::new(Semaphore::new(ROOM)) }
    }

    /// Leaves a frame here.
    pub(super) fn put(&self, address: Address, bytes: Vec<u8>) -> Result<Sent> {
        let cost = u32::try_from(bytes.len()).unwrap_or(u32::MAX).saturating_add(FRAME_COST);
        let room = self.room.clone().try_acquire_many_owned(cost);
        let room = room.map_err(|_| Error::busy("too many frames are on their way to the message broker"))?;
        let (outcome, heard) = oneshot::channel();
        let ended = || Error::cancelled("the runtime of the transport has ended");
        self.frames.send(Frame { address, bytes, outcome, room }).map_err(|_| ended())?;
        Ok(Box::pin(async move {
            match timeout(SEND_LIMIT, heard).await {
                Ok(outcome) => outcome.unwrap_or_else(|_| Err(uncertain(ended()))),
                Err(_) => Err(uncertain(Error::timeout("the message broker did not confirm a frame in time"))),
            }
        }))
    }
}

/// Sends one frame after another until nobody can leave any, and hears what becomes of each meanwhile.
async fn carry(mut frames: mpsc::UnboundedReceiver<Frame>, connections: Arc<Connections>) {
    let mut wire = None;
    let mut going: FuturesUnordered<Going> = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(()) = going.next() => {}
            frame = frames.recv() => match frame {
                Some(frame) => begin(frame, &mut wire, &connections, &mut going).await,
                None => break,
            },
        }
    }
    while going.next().await.is_some() {}
}

async fn begin(
    frame: Frame,
    wire: &mut Option<Wire>,
    connections: &Arc<Connections>,
    going: &mut FuturesUnordered<Going>,
) {
    if frame.outcome.is_closed() {
        return;
    }
    if wire.as_ref().is_none_or(|wire| !wire.channel.status().connected()) {
        *wire = None;
        match confirming(connections).await {
            Ok(made) => *wire = Some(made),
            Err(error) => return drop(frame.outcome.send(Err(error))),
        }
    }
    let Some(channel) = wire.as_ref().map(|wire| wire.channel.clone()) else { return };
    let mut going_out: Going = Box::pin(send(frame, channel, connections.clone()));
    // Its first step puts it into the connection's queue, before all that come later.
    if (&mut going_out).now_or_never().is_none() {
        going.push(going_out);
    }
}

/// An error after which it is not known whether the frame arrived.
fn uncertain(error: Error) -> Error {
    error.having(Effect::Unknown)
}

/// A channel on which the broker says what it has taken.
async fn confirming(connections: &Connections) -> Result<Wire> {
    let wire = connections.wire().await?;
    let confirming = timeout(ANSWER_LIMIT, wire.channel.confirm_select(ConfirmSelectOptions::default())).await;
    let late = |_| Error::unavailable("the message broker does not answer in time");
    let refused = |error: lapin::Error| Error::unavailable("the message broker cannot be reached").because(error);
    confirming.map_err(late)?.map_err(refused)?;
    Ok(wire)
}

async fn send(frame: Frame, channel: Channel, connections: Arc<Connections>) {
    let Frame { address, bytes, outcome, room } = frame;
    let (exchange, key) = route(address);
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let sent = channel.basic_publish(exchange.into(), key.into(), options, &bytes, properties);
    let confirmed = async { sent.await?.await };
    let became = match confirmed.await {
        Ok(Confirmation::Ack(_) | Confirmation::NotRequested) => Ok(()),
        Ok(Confirmation::Nack(_)) => Err(refused(&address, &connections).await),
        Err(error) => match translate(&error, &address) {
            broken if broken.kind() == Kind::Unavailable => Err(uncertain(broken)),
            refused => Err(refused),
        },
    };
    drop(room);
    // Whoever does not wait for it does not mind.
    let _ = outcome.send(became);
}

/// Why the broker did not take a frame.
async fn refused(address: &Address, connections: &Connections) -> Error {
    let look = connections.with_channel(address, |channel| async move {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(address.to_string().into(), passive, FieldTable::default()).await.map(drop)
    });
    match look.await {
        Ok(()) => Error::busy(format!("the mailbox of {address} is full")),
        Err(error) => error,
    }
}
