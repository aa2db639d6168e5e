//! Frames on RabbitMQ.
//!
//! ```text
//!   control plane --> exchange trove.guests --guest.ID--> queue guest.ID    --> guest
//!   guest         --> exchange control.ID   ------------> queue control.ID  --> control plane
//!                     what no queue takes   ------------> queue trove.nowhere, which refuses all
//! ```
//!
//! A guest's login needs to [write](https://www.rabbitmq.com/docs/access-control) to `control.ID` and read from `guest.ID`,
//! and to configure nothing. Unroutable frames are refused by a queue without room rather than returned as `mandatory`:
//! a returned frame cannot be told from its neighbours while many are on their way.

mod broker;
mod bus;
mod mailbox;
mod management;
mod outbox;

use std::sync::Arc;

use async_trait::async_trait;
use lapin::{
    Channel, ErrorKind, ExchangeKind,
    options::{
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::{AMQPValue, FieldTable},
};

use self::{broker::Connections, mailbox::Inbox, outbox::Outbox};
use super::{Address, MAILBOX_BYTES, MAILBOX_FRAMES, Mailbox, Sent, Side, Transport, transport::check_length};
use crate::error::{Error, Result};

pub use broker::{Broker, Login};
pub use bus::RabbitMq;
pub use management::Management;

/// Where the control plane sends what is for guests.
const GUESTS: &str = "trove.guests";
/// Where frames end that no queue takes.
const NOWHERE: &str = "trove.nowhere";

/// The transport to guests that live elsewhere, over a RabbitMQ broker: 3.10 or later. Clones are the same one.
///
/// It connects when it is first used, and again whenever it has to. Frames are on their way only until the broker has
/// confirmed them or the connection breaks. They are not for the broker's disk: one that is restarted has its mailboxes and no
/// frame. A [`Line`](super::Line) asks again then, and what a guest tells is the state of things, which it tells again. There
/// must be a tokio runtime where it is made.
///
/// Give the control plane a virtual host of its own. The broker's `max_message_size` should be 1 MiB: a guest that was
/// taken over can otherwise send longer frames, which are refused only here.
#[derive(Clone)]
pub struct Amqp {
    connections: Arc<Connections>,
    outbox: Outbox,
}

impl Amqp {
    /// The broker as whoever has this login may use it.
    pub fn new(broker: Broker, login: Login) -> Self {
        let connections = Arc::new(Connections::new(broker, login));
        Self { outbox: Outbox::new(connections.clone()), connections }
    }

    /// Uses these logins from the next connection on: the last, or where the broker refuses it the one before it.
    pub(super) fn log_in_as(&self, logins: Vec<Login>) {
        self.connections.log_in_as(logins);
    }
}

#[async_trait]
impl Transport for Amqp {
    async fn create(&self, address: &Address) -> Result<()> {
        self.connections.with_channel(address, |channel| create(channel, *address)).await
    }

    async fn remove(&self, address: &Address) -> Result<()> {
        self.connections.with_channel(address, |channel| remove(channel, *address)).await
    }

    async fn open(&self, address: &Address) -> Result<Box<dyn Mailbox>> {
        Ok(Box::new(Inbox::open(self.connections.clone(), *address).await?))
    }

    fn send(&self, address: &Address, frame: Vec<u8>) -> Sent {
        match check_length(&frame).and_then(|()| self.outbox.put(*address, frame)) {
            Ok(outcome) => outcome,
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }
}

async fn create(channel: Channel, address: Address) -> Result<(), lapin::Error> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let queue = |name: String, arguments| {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let channel = channel.clone();
        async move { channel.queue_declare(name.into(), options, arguments).await.map(drop) }
    };
    channel.exchange_declare(NOWHERE.into(), ExchangeKind::Fanout, durable, FieldTable::default()).await?;
    queue(NOWHERE.to_owned(), limits(0, 0)).await?;
    bind(&channel, NOWHERE, NOWHERE, "").await?;
    let (exchange, key) = route(address);
    let mut arguments = FieldTable::default();
    arguments.insert("alternate-exchange".into(), AMQPValue::LongString(NOWHERE.into()));
    channel.exchange_declare(exchange.as_str().into(), ExchangeKind::Direct, durable, arguments).await?;
    queue(address.to_string(), limits(MAILBOX_FRAMES, MAILBOX_BYTES)).await?;
    bind(&channel, &address.to_string(), &exchange, &key).await
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> Result<(), lapin::Error> {
    let options = QueueBindOptions::default();
    channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default()).await
}

/// A queue that refuses what is more.
fn limits(frames: usize, bytes: usize) -> FieldTable {
    let number = |number: usize| AMQPValue::LongLongInt(i64::try_from(number).unwrap_or(i64::MAX));
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), number(frames));
    arguments.insert("x-max-length-bytes".into(), number(bytes));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    arguments
}

async fn remove(channel: Channel, address: Address) -> Result<(), lapin::Error> {
    channel.queue_delete(address.to_string().into(), QueueDeleteOptions::default()).await?;
    if address.side == Side::Control {
        let exchange = route(address).0;
        channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await?;
    }
    Ok(())
}

/// The exchange and the routing key of what is for an address.
fn route(address: Address) -> (String, String) {
    match address.side {
        Side::Guest => (GUESTS.to_owned(), address.to_string()),
        Side::Control => (address.to_string(), String::new()),
    }
}

/// What the broker, or the way to it, says.
fn translate(error: &lapin::Error, address: &Address) -> Error {
    let ErrorKind::ProtocolError(said) = error.kind() else {
        return Error::unavailable("the message broker cannot be reached").because(error.clone());
    };
    let failure = match said.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => absent(address),
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED | AMQPSoftError::RESOURCELOCKED)
            if said.get_message().as_str().contains("exclusive") =>
        {
            Error::conflict(format!("somebody else receives at {address}"))
        }
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => {
            Error::invalid(format!("the message broker does not let this login use {address}"))
        }
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => {
            Error::conflict(format!("the message broker has something else at {address}"))
        }
        _ => Error::unavailable("the message broker gave up"),
    };
    failure.because(error.clone())
}

fn absent(address: &Address) -> Error {
    Error::not_found(format!("there is no mailbox {address}"))
}
