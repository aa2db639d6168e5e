//! The secrets of an attacker, and a recording of all frames with full access to the broker.

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

use super::TIMEOUT;
use crate::{broker::RabbitMqContainer, remote_agent::RemoteAgents};

const GUESTS: &str = "trove.guests";
/// Marks messages of the attacker.
const ATTACKER_APP_ID: &str = "attacker";

/// The secrets on the host of a guest.
pub struct StolenSecrets {
    pub text: String,
    pub number: u32,
    pub key: Vec<u8>,
    pub login: BrokerLogin,
}

impl StolenSecrets {
    pub fn of(agents: &RemoteAgents, instance: InstanceId) -> Self {
        let text = std::fs::read_to_string(agents.config_path(instance)).unwrap();
        let file: Value = serde_json::from_str(&text).unwrap();
        let of = |part: &str, name: &str| file["guest"][part][name].as_str().unwrap().to_owned();
        let login = BrokerLogin::new(of("broker", "user"), of("broker", "password"));
        let number = file["guest"]["key"]["number"].as_u64().unwrap();
        let key = BASE64_STANDARD.decode(of("key", "text")).unwrap();
        Self { number: u32::try_from(number).unwrap(), key, login, text }
    }
}

/// Records all frames that are sent to queues, except the attacker's.
pub struct Tap {
    queue: String,
    channel: Channel,
    recorded: Mutex<Vec<RecordedFrame>>,
    /// The number of marker messages that were sent to this queue, and how many of them arrived.
    marks: AtomicU64,
    passed: watch::Sender<u64>,
    _connection: Connection,
}

/// A recorded frame.
#[derive(Clone)]
pub struct RecordedFrame {
    pub to: Address,
    pub frame: Vec<u8>,
}

impl Tap {
    pub async fn new(broker: &RabbitMqContainer) -> Arc<Self> {
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
            recorded: Mutex::default(),
            marks: AtomicU64::default(),
            passed: watch::Sender::new(0),
            _connection: connection,
        });
        let reading = Arc::downgrade(&tap);
        // Ends with the connection.
        tokio::spawn(async move {
            while let Some(Ok(delivery)) = consumer.next().await {
                let Some(tap) = reading.upgrade() else { return };
                tap.record(delivery);
            }
        });
        tap
    }

    fn record(&self, Delivery { exchange, routing_key, properties, data, .. }: Delivery) {
        if properties.app_id().as_ref().is_some_and(|app| app.as_str() == ATTACKER_APP_ID) {
            return;
        }
        let of = |name: &str| InstanceId::from_untyped_uuid(name.split_once('.').unwrap().1.parse().unwrap());
        let to = match exchange.as_str() {
            "" => return self.passed.send_modify(|passed| *passed += 1),
            GUESTS => Address::guest(of(routing_key.as_str())),
            control => Address::control(of(control)),
        };
        self.recorded.lock().unwrap().push(RecordedFrame { to, frame: data });
    }

    /// Starts recording the frames to and from the guest of this instance.
    async fn bind(&self, instance: InstanceId) {
        let (guest, control) = (Address::guest(instance).to_string(), Address::control(instance).to_string());
        for (exchange, key) in [(GUESTS, guest.as_str()), (control.as_str(), "")] {
            let (queue, options) = (self.queue.as_str(), QueueBindOptions::default());
            let bound =
                self.channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default());
            bound.await.unwrap();
        }
    }

    /// Returns all frames that were sent until now.
    pub async fn all(&self) -> Vec<RecordedFrame> {
        let mark = self.marks.fetch_add(1, Ordering::Relaxed) + 1;
        let properties = BasicProperties::default();
        let sent =
            self.channel.basic_publish("".into(), self.queue.as_str().into(), Default::default(), b"", properties);
        sent.await.unwrap().await.unwrap();
        self.passed.subscribe().wait_for(|passed| *passed >= mark).await.unwrap();
        self.recorded.lock().unwrap().clone()
    }

    /// Returns the last matching frame, waiting for one if there is none.
    pub async fn find(&self, wanted: impl Fn(&RecordedFrame) -> bool) -> Vec<u8> {
        self.find_after(0, wanted).await
    }

    /// Does the same, ignoring the first `count` frames.
    pub async fn find_after(&self, count: usize, wanted: impl Fn(&RecordedFrame) -> bool) -> Vec<u8> {
        let found = async {
            loop {
                if let Some(sent) = self.all().await.into_iter().skip(count).filter(&wanted).last() {
                    return sent.frame;
                }
            }
        };
        tokio::time::timeout(TIMEOUT, found).await.expect("no such frame was sent")
    }
}

/// A broker whose frames are recorded.
pub struct TappedBroker {
    pub broker: rpc::RabbitMq,
    pub tap: Arc<Tap>,
}

#[async_trait]
impl MessageBroker for TappedBroker {
    fn control(&self) -> Arc<dyn Transport> {
        self.broker.control()
    }

    async fn authorize(&self, instance: InstanceId, login: &BrokerLogin) -> Result<BrokerEndpoint> {
        self.tap.bind(instance).await;
        self.broker.authorize(instance, login).await
    }

    async fn revoke(&self, user: &str) -> Result<()> {
        self.broker.revoke(user).await
    }
}

/// Opens a channel with publisher confirms.
pub async fn confirming(connection: &Connection) -> Channel {
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    channel
}

/// Publishes a frame, retrying until the queue has room.
pub async fn put(channel: &Channel, exchange: &str, key: &str, frame: &[u8]) {
    while !published(channel, exchange, key, frame).await.unwrap() {
        tokio::time::sleep(crate::POLL_INTERVAL).await;
    }
}

/// Publishes a frame; false if the broker rejected it because the queue is full.
pub async fn published(channel: &Channel, exchange: &str, key: &str, frame: &[u8]) -> lapin::Result<bool> {
    let (options, properties) =
        (BasicPublishOptions::default(), BasicProperties::default().with_app_id(ATTACKER_APP_ID.into()));
    let sent = channel.basic_publish(exchange.into(), key.into(), options, frame, properties).await?;
    Ok(matches!(sent.await?, Confirmation::Ack(_)))
}

/// Asserts that the broker refuses an action with `ACCESS_REFUSED`.
pub async fn assert_access_refused<T>(
    connection: &Connection,
    name: &str,
    attempt: impl AsyncFnOnce(Channel) -> lapin::Result<T>,
) {
    let channel = confirming(connection).await;
    let error = attempt(channel).await.err().unwrap_or_else(|| panic!("{name} is allowed"));
    let ErrorKind::ProtocolError(reply) = error.kind() else { panic!("{name}: {error:?}") };
    assert_eq!(*reply.kind(), AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED), "{name}: {error:?}");
}
