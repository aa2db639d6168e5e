//! Consuming a queue of the broker.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use lapin::{
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use super::{
    connection::{ConnectionPool, METHOD_TIMEOUT, PooledChannel, timed_out},
    translate,
};
use crate::{
    error::{Error, Kind, Result},
    rpc::{
        Address, Delivery, QueueConsumer,
        transport::{Acknowledger, next_delay, reconnect_delays},
    },
};

/// The maximum number of frames that are fetched and not acknowledged. A compromised guest can fill
/// each with a megabyte.
const PREFETCH: u16 = 8;
/// How long the broker may take to detect that the connection of the previous consumer is gone:
/// twice the heartbeat interval, and a margin.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(30);

/// The exclusive consumer of a queue. It reconnects when its connection breaks.
pub(super) struct AmqpConsumer {
    queue: ConsumedQueue,
    subscription: Option<Subscription>,
}

struct ConsumedQueue {
    connections: Arc<ConnectionPool>,
    address: Address,
}

/// A consumer on one channel. The broker redelivers what an earlier channel did not acknowledge.
struct Subscription {
    consumer: lapin::Consumer,
    channel: Arc<ConsumerChannel>,
}

struct ConsumerChannel {
    pooled: PooledChannel,
    /// The frames to deliver again, by delivery tag.
    requeued: Mutex<BTreeMap<u64, Vec<u8>>>,
    changed: Notify,
}

impl AmqpConsumer {
    pub(super) async fn open(connections: Arc<ConnectionPool>, address: Address) -> Result<Self> {
        let queue = ConsumedQueue { connections, address };
        let subscription = Some(queue.subscribe().await?);
        Ok(Self { queue, subscription })
    }
}

impl ConsumedQueue {
    async fn subscribe(&self) -> Result<Subscription> {
        let pooled = self.connections.channel().await?;
        let subscribe = async {
            pooled.channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
            let exclusive = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
            let queue = self.address.to_string().into();
            pooled.channel.basic_consume(queue, "".into(), exclusive, FieldTable::default()).await
        };
        let subscribed = timeout(METHOD_TIMEOUT, subscribe).await.map_err(|_| timed_out())?;
        let consumer = subscribed.map_err(|error| translate(&error, &self.address))?;
        let channel = ConsumerChannel { pooled, requeued: Mutex::default(), changed: Notify::new() };
        Ok(Subscription { consumer, channel: Arc::new(channel) })
    }

    /// Subscribes again, retrying while the broker is unreachable or still has the previous
    /// consumer.
    async fn resubscribe(&self) -> Result<Subscription> {
        let (since, mut delays) = (Instant::now(), reconnect_delays());
        loop {
            let error = match self.subscribe().await {
                Ok(subscription) => {
                    tracing::info!(address = %self.address, "reconnected to the message broker");
                    return Ok(subscription);
                }
                Err(error) => error,
            };
            let has_previous = error.kind() == Kind::Conflict && since.elapsed() < TAKEOVER_TIMEOUT;
            if error.kind() != Kind::Unavailable && !has_previous {
                return Err(error);
            }
            tracing::debug!(address = %self.address, error = error.report(), "failed to reconnect to the message broker");
            sleep(next_delay(&mut delays)).await;
        }
    }
}

#[async_trait]
impl QueueConsumer for AmqpConsumer {
    async fn receive(&mut self) -> Result<Delivery> {
        loop {
            let subscription = match &mut self.subscription {
                Some(subscription) => subscription,
                lost @ None => lost.insert(self.queue.resubscribe().await?),
            };
            let Subscription { consumer, channel } = subscription;
            if !channel.pooled.channel.status().connected() {
                tracing::warn!(address = %self.queue.address, "lost the connection to the message broker");
                self.subscription = None;
                continue;
            }
            let first = channel.requeued.lock().pop_first();
            if let Some((tag, frame)) = first {
                return Ok(Delivery::new(frame, tag, channel.clone()));
            }
            tokio::select! {
                biased;
                () = channel.changed.notified() => {}
                next = consumer.next() => match next {
                    Some(Ok(next)) => return Ok(Delivery::new(next.data, next.delivery_tag, channel.clone())),
                    // The queue was deleted, or the channel closed.
                    Some(Err(_)) | None => self.subscription = None,
                },
            }
        }
    }
}

#[async_trait]
impl Acknowledger for ConsumerChannel {
    async fn acknowledge(&self, tag: u64, _bytes: usize) -> Result<()> {
        // The first poll hands the method to the connection. If that breaks before the method is
        // written, the broker redelivers the frame.
        match self.pooled.channel.basic_ack(tag, BasicAckOptions::default()).now_or_never() {
            None | Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(Error::unavailable("could not acknowledge a frame").with_source(error)),
        }
    }

    fn requeue(&self, tag: u64, frame: Vec<u8>) {
        self.requeued.lock().insert(tag, frame);
        self.changed.notify_one();
    }
}
