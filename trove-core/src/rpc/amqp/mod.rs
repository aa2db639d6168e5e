//! The transport over RabbitMQ.
//!
//! ```text
//!   control plane --> exchange trove.guests --guest.ID--> queue guest.ID    --> guest
//!   guest         --> exchange control.ID   ------------> queue control.ID  --> control plane
//!                     unroutable frames     ------------> queue trove.nowhere, which rejects all
//! ```
//!
//! The login of a guest needs [write permission](https://www.rabbitmq.com/docs/access-control) for
//! `control.ID`, read permission for `guest.ID`, and no configure permission.
//!
//! Unroutable frames go to a queue of length zero, which rejects them, rather than being returned
//! as `mandatory`: a `basic.return` does not identify its frame among those in flight.

mod certificates;
mod connection;
mod consumer;
#[cfg(feature = "amqp-management")]
mod management;
mod publisher;
#[cfg(feature = "amqp-management")]
mod rabbitmq;
mod stream;

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

use self::{connection::ConnectionPool, consumer::AmqpConsumer, publisher::Publisher};
use super::{
    Address, BrokerLogin, QUEUE_BYTES, QUEUE_FRAMES, QueueConsumer, SendFuture, Side, Transport,
    transport::check_length,
};
use crate::error::{Error, Result};

pub use certificates::CaCertificates;
pub use connection::Broker;
#[cfg(feature = "amqp-management")]
pub use management::Management;
#[cfg(feature = "amqp-management")]
pub use rabbitmq::RabbitMq;

/// The exchange to which the control plane publishes.
const GUESTS: &str = "trove.guests";
/// The alternate exchange and queue of unroutable frames.
const NOWHERE: &str = "trove.nowhere";

/// The transport over a RabbitMQ broker, version 3.10 or later. Clones share their connections.
///
/// It connects on first use and reconnects as needed. Frames are sealed, but logins are encrypted
/// only [with TLS](Broker::with_tls) (feature `amqp-tls`). A frame is in flight until the broker confirms it or the connection
/// breaks. Frames are transient: a broker that restarts keeps the queues and loses the frames. An
/// [`RpcClient`](super::RpcClient) then resends its calls, and notifications report state that is
/// reported again.
///
/// Give the control plane a virtual host of its own. Set `max_message_size` of the broker to 1 MiB:
/// otherwise a compromised guest can send larger frames, which are dropped only on receipt.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use trove_core::rpc::{Amqp, Broker, BrokerLogin};
///
/// let transport = Amqp::new(Broker::at("rabbit.example"), BrokerLogin::new("trove", "password"));
/// # });
/// ```
#[derive(Clone)]
pub struct Amqp {
    connections: Arc<ConnectionPool>,
    publisher: Publisher,
}

impl Amqp {
    /// Creates a transport that connects with this login. Must be called within a Tokio runtime.
    pub fn new(broker: Broker, login: BrokerLogin) -> Self {
        Self::with_logins(broker, vec![login])
    }

    pub(super) fn with_logins(broker: Broker, logins: Vec<BrokerLogin>) -> Self {
        let connections = Arc::new(ConnectionPool::new(broker, logins));
        Self { publisher: Publisher::new(connections.clone()), connections }
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

    async fn open(&self, address: &Address) -> Result<Box<dyn QueueConsumer>> {
        Ok(Box::new(AmqpConsumer::open(self.connections.clone(), *address).await?))
    }

    fn send(&self, address: &Address, frame: Vec<u8>) -> SendFuture {
        match check_length(&frame).and_then(|()| self.publisher.publish(*address, frame)) {
            Ok(outcome) => outcome,
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn set_logins(&self, logins: Vec<BrokerLogin>) {
        self.connections.set_logins(logins);
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
    queue(address.to_string(), limits(QUEUE_FRAMES, QUEUE_BYTES)).await?;
    bind(&channel, &address.to_string(), &exchange, &key).await
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> Result<(), lapin::Error> {
    let options = QueueBindOptions::default();
    channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default()).await
}

/// Returns the arguments of a queue that rejects frames above these limits.
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

/// Returns the exchange and the routing key of the frames to an address.
fn route(address: Address) -> (String, String) {
    match address.side {
        Side::Guest => (GUESTS.to_owned(), address.to_string()),
        Side::Control => (address.to_string(), String::new()),
    }
}

/// Translates an error of the broker or of the connection to it.
fn translate(error: &lapin::Error, address: &Address) -> Error {
    let ErrorKind::ProtocolError(reply) = error.kind() else {
        return Error::unavailable("could not reach the message broker").with_source(error.clone());
    };
    let translated = match reply.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => Error::not_found(format!("there is no queue {address}")),
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED | AMQPSoftError::RESOURCELOCKED)
            if reply.get_message().as_str().contains("exclusive") =>
        {
            Error::conflict(format!("the queue {address} has another consumer"))
        }
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => {
            Error::invalid(format!("the message broker denied access to {address}"))
        }
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => {
            Error::conflict(format!("the queue or exchange {address} exists with other arguments"))
        }
        _ => Error::unavailable("the message broker closed the channel or connection"),
    };
    translated.with_source(error.clone())
}
