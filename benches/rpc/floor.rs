//! Sealed messages as barely as they can be sent: a queue for each direction, AES-256-GCM, publisher confirms,
//! acknowledgements. A call has a number and waits for the answer with that number. A frame that was sent before is
//! taken again, and nothing is asked twice.

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

/// As the library has it: what a frame's part holds, and how many frames are fetched.
pub(super) const QUERY: &str = "?frame_max=8192&heartbeat=10";
const FETCHED: u16 = 64;

const GUEST: &str = "floor.guest";
const CONTROL: &str = "floor.control";

/// One end. Dropped, it ends.
pub(super) struct Floor {
    shared: Arc<Shared>,
    receiver: AbortHandle,
    _connection: Connection,
}

struct Shared {
    out: Channel,
    back: Channel,
    to: &'static str,
    cipher: Aes256Gcm,
    /// Which numbers are this end's.
    side: u8,
    next: AtomicU64,
    waiting: Mutex<HashMap<String, oneshot::Sender<Vec<u8>>>>,
    heard: AtomicUsize,
}

impl Floor {
    /// The end that asks, and is told.
    pub(super) async fn control(uri: &str, key: &[u8; 32]) -> Result<Self> {
        Self::open(uri, key, CONTROL, GUEST, 0).await
    }

    /// The end that answers with what it was asked, and tells.
    pub(super) async fn guest(uri: &str, key: &[u8; 32]) -> Result<Self> {
        Self::open(uri, key, GUEST, CONTROL, 1).await
    }

    async fn open(uri: &str, key: &[u8; 32], own: &str, to: &'static str, side: u8) -> Result<Self> {
        let connection = Connection::connect(&format!("{uri}{QUERY}"), ConnectionProperties::default()).await?;
        let (out, back) = (connection.create_channel().await?, connection.create_channel().await?);
        out.confirm_select(ConfirmSelectOptions::default()).await?;
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        for queue in [own, to] {
            back.queue_declare(queue.into(), durable, FieldTable::default()).await?;
        }
        back.basic_qos(FETCHED, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let consumer = back.basic_consume(own.into(), "".into(), options, FieldTable::default()).await?;
        let (waiting, heard) = (Mutex::default(), AtomicUsize::default());
        let cipher = Aes256Gcm::new(key.into());
        let shared = Arc::new(Shared { out, back, to, cipher, side, next: AtomicU64::new(1), waiting, heard });
        let receiver = tokio::spawn(shared.clone().receive(consumer)).abort_handle();
        Ok(Self { shared, receiver, _connection: connection })
    }

    /// Asks the guest, who has to say the same.
    pub(super) async fn call(&self, text: &[u8]) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        let (number, frame) = self.shared.seal(text)?;
        let id = number.to_string();
        self.shared.waiting().insert(id.clone(), answer);
        self.shared.send(frame, Some(id)).await?;
        if answered.await? == text { Ok(()) } else { Err("another answer".into()) }
    }

    pub(super) async fn tell(&self, text: &[u8]) -> Result<()> {
        let (_, frame) = self.shared.seal(text)?;
        self.shared.send(frame, None).await
    }

    /// How often it was told something.
    pub(super) fn heard(&self) -> usize {
        self.shared.heard.load(Ordering::Relaxed)
    }
}

impl Shared {
    async fn receive(self: Arc<Self>, mut consumer: Consumer) -> Result<()> {
        while let Some(delivery) = consumer.next().await {
            self.clone().hear(delivery?)?;
        }
        Ok(())
    }

    fn hear(self: Arc<Self>, delivery: Delivery) -> Result<()> {
        let text = self.open(&delivery.data)?;
        match delivery.properties.correlation_id() {
            Some(id) if self.to == CONTROL => {
                let ((_, frame), id) = (self.seal(&text)?, id.to_string());
                let shared = self.clone();
                tokio::spawn(async move { shared.send(frame, Some(id)).await });
            }
            Some(id) => {
                let answer = self.waiting().remove(id.as_str()).ok_or("an answer that nobody waits for")?;
                // Whoever gave up does not mind.
                let _ = answer.send(text);
            }
            None => drop(self.heard.fetch_add(1, Ordering::Relaxed)),
        }
        // Its first step hands it to the connection.
        match self.back.basic_ack(delivery.delivery_tag, BasicAckOptions::default()).now_or_never() {
            None => Ok(()),
            Some(done) => Ok(done?),
        }
    }

    async fn send(&self, frame: Vec<u8>, id: Option<String>) -> Result<()> {
        let mut properties = BasicProperties::default();
        if let Some(id) = id {
            properties = properties.with_correlation_id(id.into());
        }
        let options = BasicPublishOptions::default();
        let sent = self.out.basic_publish("".into(), self.to.into(), options, &frame, properties).await?;
        if matches!(sent.await?, Confirmation::Ack(_)) { Ok(()) } else { Err("a frame was not taken".into()) }
    }

    /// The number of the next frame, and the frame.
    fn seal(&self, text: &[u8]) -> Result<(u64, Vec<u8>)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut nonce = [0; 12];
        nonce[0] = self.side;
        nonce[4..].copy_from_slice(&number.to_be_bytes());
        let sealed = self.cipher.encrypt(&Nonce::from(nonce), text).map_err(|_| "a frame cannot be sealed")?;
        Ok((number, [nonce.as_slice(), &sealed].concat()))
    }

    fn open(&self, frame: &[u8]) -> Result<Vec<u8>> {
        let (nonce, sealed) = frame.split_first_chunk::<12>().ok_or("a frame is too short")?;
        Ok(self.cipher.decrypt(&Nonce::from(*nonce), sealed).map_err(|_| "a frame does not open")?)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Vec<u8>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.receiver.abort();
    }
}
