//! Sealed messages with minimal code: a queue for each direction, AES-256-GCM, publisher confirms
//! and acknowledgments. A response carries the number of its call as correlation ID. Neither
//! replayed frames nor repeated calls are detected.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use aes_gcm::{Aes256Gcm, KeyInit, Nonce, aead::Aead};
use futures_util::{FutureExt, StreamExt};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        QueueDeclareOptions,
    },
    types::FieldTable,
};
use tokio::{sync::oneshot, task::AbortHandle};
use trove_benches::Result;

/// The connection parameters of the library.
pub(super) const URI_PARAMETERS: &str = "?frame_max=8192&heartbeat=10";
/// The prefetch count of the library.
const PREFETCH: u16 = 8;

const GUEST_QUEUE: &str = "baseline.guest";
const CONTROL_QUEUE: &str = "baseline.control";

/// One end of the message exchange. Stops when dropped.
pub(super) struct BaselineEnd {
    shared: Arc<Shared>,
    receiver: AbortHandle,
    _connection: Connection,
}

struct Shared {
    publish_channel: Channel,
    consume_channel: Channel,
    peer_queue: &'static str,
    cipher: Aes256Gcm,
    /// The first byte of each nonce, which differs between the two ends.
    nonce_prefix: u8,
    next_number: AtomicU64,
    pending_calls: Mutex<HashMap<String, oneshot::Sender<Vec<u8>>>>,
    notification_count: AtomicUsize,
}

impl BaselineEnd {
    /// Opens the end that calls and receives notifications.
    pub(super) async fn control(uri: &str, key: &[u8; 32]) -> Result<Self> {
        Self::open(uri, key, CONTROL_QUEUE, GUEST_QUEUE, 0).await
    }

    /// Opens the end that echoes calls and sends notifications.
    pub(super) async fn guest(uri: &str, key: &[u8; 32]) -> Result<Self> {
        Self::open(uri, key, GUEST_QUEUE, CONTROL_QUEUE, 1).await
    }

    async fn open(
        uri: &str,
        key: &[u8; 32],
        own_queue: &str,
        peer_queue: &'static str,
        nonce_prefix: u8,
    ) -> Result<Self> {
        let uri = format!("{uri}{URI_PARAMETERS}");
        let connection = Connection::connect(&uri, ConnectionProperties::default()).await?;
        let (publish_channel, consume_channel) =
            (connection.create_channel().await?, connection.create_channel().await?);
        publish_channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        for queue in [own_queue, peer_queue] {
            consume_channel.queue_declare(queue.into(), durable, FieldTable::default()).await?;
        }
        consume_channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let consumer =
            consume_channel.basic_consume(own_queue.into(), "".into(), options, FieldTable::default()).await?;
        let shared = Arc::new(Shared {
            publish_channel,
            consume_channel,
            peer_queue,
            cipher: Aes256Gcm::new(key.into()),
            nonce_prefix,
            next_number: AtomicU64::new(1),
            pending_calls: Mutex::default(),
            notification_count: AtomicUsize::default(),
        });
        let receiver = tokio::spawn(shared.clone().receive(consumer)).abort_handle();
        Ok(Self { shared, receiver, _connection: connection })
    }

    /// Calls the guest, which has to return the payload.
    pub(super) async fn call(&self, payload: &[u8]) -> Result<()> {
        let (sender, response) = oneshot::channel();
        let (number, frame) = self.shared.seal(payload)?;
        let id = number.to_string();
        self.shared.pending_calls().insert(id.clone(), sender);
        self.shared.publish(frame, Some(id)).await?;
        if response.await? == payload { Ok(()) } else { Err("the guest returned another payload".into()) }
    }

    /// Sends a notification and waits until the broker has confirmed it.
    pub(super) async fn notify(&self, payload: &[u8]) -> Result<()> {
        let (_, frame) = self.shared.seal(payload)?;
        self.shared.publish(frame, None).await
    }

    /// Returns the number of received notifications.
    pub(super) fn notification_count(&self) -> usize {
        self.shared.notification_count.load(Ordering::Relaxed)
    }
}

impl Shared {
    async fn receive(self: Arc<Self>, mut consumer: Consumer) -> Result<()> {
        while let Some(delivery) = consumer.next().await {
            self.clone().handle(delivery?)?;
        }
        Ok(())
    }

    fn handle(self: Arc<Self>, delivery: Delivery) -> Result<()> {
        let payload = self.open(&delivery.data)?;
        match delivery.properties.correlation_id() {
            Some(id) if self.peer_queue == CONTROL_QUEUE => {
                let ((_, frame), id) = (self.seal(&payload)?, id.to_string());
                let shared = self.clone();
                tokio::spawn(async move { shared.publish(frame, Some(id)).await });
            }
            Some(id) => {
                let sender = self.pending_calls().remove(id.as_str()).ok_or("a response to an unknown call")?;
                // The caller may have been cancelled.
                let _ = sender.send(payload);
            }
            None => drop(self.notification_count.fetch_add(1, Ordering::Relaxed)),
        }
        // The first poll hands the acknowledgment to the connection.
        match self.consume_channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default()).now_or_never() {
            None => Ok(()),
            Some(outcome) => Ok(outcome?),
        }
    }

    async fn publish(&self, frame: Vec<u8>, correlation_id: Option<String>) -> Result<()> {
        let mut properties = BasicProperties::default();
        if let Some(id) = correlation_id {
            properties = properties.with_correlation_id(id.into());
        }
        let (queue, options) = (self.peer_queue.into(), BasicPublishOptions::default());
        let confirm = self.publish_channel.basic_publish("".into(), queue, options, &frame, properties).await?;
        match confirm.await? {
            Confirmation::Ack(_) => Ok(()),
            _ => Err("the broker rejected a frame".into()),
        }
    }

    /// Returns the number of the next frame, and the frame.
    fn seal(&self, payload: &[u8]) -> Result<(u64, Vec<u8>)> {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let mut nonce = [0; 12];
        nonce[0] = self.nonce_prefix;
        nonce[4..].copy_from_slice(&number.to_be_bytes());
        let sealed = self.cipher.encrypt(&Nonce::from(nonce), payload).map_err(|_| "could not seal a frame")?;
        Ok((number, [nonce.as_slice(), &sealed].concat()))
    }

    fn open(&self, frame: &[u8]) -> Result<Vec<u8>> {
        let (nonce, sealed) = frame.split_first_chunk::<12>().ok_or("a frame is too short")?;
        Ok(self.cipher.decrypt(&Nonce::from(*nonce), sealed).map_err(|_| "could not open a frame")?)
    }

    fn pending_calls(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Vec<u8>>>> {
        self.pending_calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for BaselineEnd {
    fn drop(&mut self) {
        self.receiver.abort();
    }
}
