//! What a thief has, and what whoever is the broker sees and does.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ErrorKind,
    message::Delivery,
    options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::FieldTable,
};
use serde_json::Value;
use tokio::sync::watch;
use trove_core::{
    error::Result,
    id::{GenericUuid, InstanceId},
    rpc::{self, Address, BrokerEndpoint, BrokerLogin, MessageBroker, Transport},
};
use uuid::Uuid;

use super::PATIENCE;
use crate::{apart::Apart, broker::RabbitMq};

const GUESTS: &str = "trove.guests";
/// What the thief's own messages are marked with.
const THIEF: &str = "thief";

/// What a thief on a guest's host finds.
pub struct Loot {
    pub text: String,
    pub number: u32,
    pub key: Vec<u8>,
    pub login: BrokerLogin,
}

impl Loot {
    pub fn of(apart: &Apart, instance: InstanceId) -> Self {
        let text = std::fs::read_to_string(apart.file(instance)).unwrap();
        let told: Value = serde_json::from_str(&text).unwrap();
        let of = |part: &str, name: &str| told["guest"][part][name].as_str().unwrap().to_owned();
        let login = BrokerLogin::new(of("broker", "user"), of("broker", "password"));
        let number = told["guest"]["key"]["number"].as_u64().unwrap();
        let key = BASE64_STANDARD.decode(of("key", "text")).unwrap();
        Self { number: u32::try_from(number).unwrap(), key, login, text }
    }
}

/// All that is sent to mailboxes, but by the thief, as whoever is the broker sees it.
pub struct Tap {
    queue: String,
    channel: Channel,
    seen: Mutex<Vec<Seen>>,
    /// How many frames were sent that only mark a moment, and how many of them arrived.
    marks: AtomicU64,
    passed: watch::Sender<u64>,
    _connection: Connection,
}

/// A frame that was sent.
#[derive(Clone)]
pub struct Seen {
    pub to: Address,
    pub frame: Vec<u8>,
}

impl Tap {
    pub async fn new(broker: &RabbitMq) -> Arc<Self> {
        let connection = broker.connect(&broker.control_login()).await.unwrap();
        let (channel, queue) = (confirming(&connection).await, format!("tap.{}", Uuid::new_v4()));
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await.unwrap();
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consumer = channel.basic_consume(queue.as_str().into(), "".into(), options, FieldTable::default());
        let mut consumer = consumer.await.unwrap();
        let tap = Arc::new(Self {
            queue,
            channel,
            seen: Mutex::default(),
            marks: AtomicU64::default(),
            passed: watch::Sender::new(0),
            _connection: connection,
        });
        let reading = Arc::downgrade(&tap);
        // It ends with the connection.
        tokio::spawn(async move {
            while let Some(Ok(delivery)) = consumer.next().await {
                let Some(tap) = reading.upgrade() else { return };
                tap.note(delivery);
            }
        });
        tap
    }

    fn note(&self, Delivery { exchange, routing_key, properties, data, .. }: Delivery) {
        if properties.app_id().as_ref().is_some_and(|app| app.as_str() == THIEF) {
            return;
        }
        let of = |name: &str| InstanceId::from_untyped_uuid(name.split_once('.').unwrap().1.parse().unwrap());
        let to = match exchange.as_str() {
            "" => return self.passed.send_modify(|passed| *passed += 1),
            GUESTS => Address::guest(of(routing_key.as_str())),
            control => Address::control(of(control)),
        };
        self.seen.lock().unwrap().push(Seen { to, frame: data });
    }

    /// Hears from now on what is sent to and by the guest of this instance.
    async fn listen(&self, instance: InstanceId) {
        let (guest, control) = (Address::guest(instance).to_string(), Address::control(instance).to_string());
        for (exchange, key) in [(GUESTS, guest.as_str()), (control.as_str(), "")] {
            let (queue, options) = (self.queue.as_str(), QueueBindOptions::default());
            let bound =
                self.channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default());
            bound.await.unwrap();
        }
    }

    /// All that was sent until now.
    pub async fn all(&self) -> Vec<Seen> {
        let mark = self.marks.fetch_add(1, Ordering::Relaxed) + 1;
        let properties = BasicProperties::default();
        let sent =
            self.channel.basic_publish("".into(), self.queue.as_str().into(), Default::default(), b"", properties);
        sent.await.unwrap().await.unwrap();
        self.passed.subscribe().wait_for(|passed| *passed >= mark).await.unwrap();
        self.seen.lock().unwrap().clone()
    }

    /// The last such frame, or the first that is sent.
    pub async fn find(&self, wanted: impl Fn(&Seen) -> bool) -> Vec<u8> {
        self.find_after(0, wanted).await
    }

    /// The same, not counting so many that were sent first.
    pub async fn find_after(&self, count: usize, wanted: impl Fn(&Seen) -> bool) -> Vec<u8> {
        let found = async {
            loop {
                if let Some(seen) = self.all().await.into_iter().skip(count).filter(&wanted).last() {
                    return seen.frame;
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("it was not sent")
    }
}

/// A bus that is listened in to.
pub struct Tapped {
    pub bus: rpc::RabbitMq,
    pub tap: Arc<Tap>,
}

#[async_trait]
impl MessageBroker for Tapped {
    fn control(&self) -> Arc<dyn Transport> {
        self.bus.control()
    }

    async fn authorize(&self, instance: InstanceId, login: &BrokerLogin) -> Result<BrokerEndpoint> {
        self.tap.listen(instance).await;
        self.bus.authorize(instance, login).await
    }

    async fn revoke(&self, user: &str) -> Result<()> {
        self.bus.revoke(user).await
    }
}

/// A channel on which the broker says what it has taken.
pub async fn confirming(connection: &Connection) -> Channel {
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    channel
}

/// Publishes until there is room for it.
pub async fn put(channel: &Channel, exchange: &str, key: &str, frame: &[u8]) {
    while !published(channel, exchange, key, frame).await.unwrap() {
        tokio::task::yield_now().await;
    }
}

/// True where the broker took it, false where there is no room.
pub async fn published(channel: &Channel, exchange: &str, key: &str, frame: &[u8]) -> lapin::Result<bool> {
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default().with_app_id(THIEF.into()));
    let sent = channel.basic_publish(exchange.into(), key.into(), options, frame, properties).await?;
    Ok(matches!(sent.await?, Confirmation::Ack(_)))
}

/// Shows that the broker does not let this be done.
pub async fn is_refused<T>(
    connection: &Connection,
    name: &str,
    attempt: impl AsyncFnOnce(Channel) -> lapin::Result<T>,
) {
    let channel = confirming(connection).await;
    let error = attempt(channel).await.err().unwrap_or_else(|| panic!("{name} is allowed"));
    let ErrorKind::ProtocolError(said) = error.kind() else { panic!("{name}: {error:?}") };
    assert_eq!(*said.kind(), AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED), "{name}: {error:?}");
}
