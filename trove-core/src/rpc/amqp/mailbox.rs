//! What comes from the broker.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use lapin::{
    Consumer,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use super::{
    broker::{ANSWER_LIMIT, Connections, Wire},
    translate,
};
use crate::{
    error::{Error, Kind, Result},
    rpc::{Address, Delivery, Mailbox, transport::Keeper},
};

/// How many frames are fetched that are not done.
const FETCHED: u16 = 64;
/// How long to wait before a connection that failed is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// How long the broker may take for a receiver that is gone to notice it: its heartbeats twice, and some.
const TAKEN_LIMIT: Duration = Duration::from_secs(30);

/// The one receiver of a queue, who connects again where it has to.
pub(super) struct Inbox {
    place: Place,
    reception: Option<Reception>,
}

/// A queue on its broker.
struct Place {
    connections: Arc<Connections>,
    address: Address,
}

/// What is received over one channel. What was received over an earlier one comes again.
struct Reception {
    consumer: Consumer,
    fetched: Arc<Fetched>,
}

struct Fetched {
    wire: Wire,
    /// What was not done, by the numbers that the broker gave.
    back: Mutex<BTreeMap<u64, Vec<u8>>>,
    returned: Notify,
}

impl Inbox {
    pub(super) async fn open(connections: Arc<Connections>, address: Address) -> Result<Self> {
        let place = Place { connections, address };
        let reception = Some(place.begin().await?);
        Ok(Self { place, reception })
    }
}

impl Place {
    async fn begin(&self) -> Result<Reception> {
        let wire = self.connections.wire().await?;
        let begin = async {
            wire.channel.basic_qos(FETCHED, BasicQosOptions::default()).await?;
            let only = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
            wire.channel.basic_consume(self.address.to_string().into(), "".into(), only, FieldTable::default()).await
        };
        let late = |_| Error::unavailable("the message broker does not answer in time");
        let begun = timeout(ANSWER_LIMIT, begin).await.map_err(late)?;
        let consumer = begun.map_err(|error| translate(&error, &self.address))?;
        Ok(Reception { consumer, fetched: Arc::new(Fetched { wire, back: Mutex::default(), returned: Notify::new() }) })
    }

    /// Begins again, for as long as it is only the way to the broker that fails.
    async fn begin_again(&self) -> Result<Reception> {
        let (since, mut pause) = (Instant::now(), PAUSES.0);
        loop {
            let error = match self.begin().await {
                Ok(reception) => {
                    tracing::info!(at = %self.address, "the message broker is reached again");
                    return Ok(reception);
                }
                Err(error) => error,
            };
            let taken = error.kind() == Kind::Conflict && since.elapsed() < TAKEN_LIMIT;
            if error.kind() != Kind::Unavailable && !taken {
                return Err(error);
            }
            tracing::debug!(at = %self.address, error = error.report(), "the message broker is not reached");
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

#[async_trait]
impl Mailbox for Inbox {
    async fn receive(&mut self) -> Result<Delivery> {
        loop {
            let reception = match &mut self.reception {
                Some(reception) => reception,
                gone @ None => gone.insert(self.place.begin_again().await?),
            };
            let Reception { consumer, fetched } = reception;
            if !fetched.wire.channel.status().connected() {
                tracing::warn!(at = %self.place.address, "the message broker is away");
                self.reception = None;
                continue;
            }
            let first = fetched.waiting().pop_first();
            if let Some((number, frame)) = first {
                return Ok(Delivery::new(frame, number, fetched.clone()));
            }
            tokio::select! {
                biased;
                () = fetched.returned.notified() => {}
                next = consumer.next() => match next {
                    Some(Ok(fresh)) => return Ok(Delivery::new(fresh.data, fresh.delivery_tag, fetched.clone())),
                    // The queue was removed, or nothing is said any more.
                    Some(Err(_)) | None => self.reception = None,
                },
            }
        }
    }
}

#[async_trait]
impl Keeper for Fetched {
    async fn done(&self, number: u64, _bytes: usize) -> Result<()> {
        // Its first step hands it to the connection; where that breaks before it is written the frame comes again.
        match self.wire.channel.basic_ack(number, BasicAckOptions::default()).now_or_never() {
            None | Some(Ok(())) => Ok(()),
            Some(Err(error)) => {
                let message = "the message broker cannot be told that a frame is done";
                Err(Error::unavailable(message).because(error))
            }
        }
    }

    fn back(&self, number: u64, frame: Vec<u8>) {
        self.waiting().insert(number, frame);
        self.returned.notify_one();
    }
}

impl Fetched {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, Vec<u8>>> {
        self.back.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
