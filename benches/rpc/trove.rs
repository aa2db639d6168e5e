//! Sealed messages as the library sends them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio_util::sync::{CancellationToken, DropGuard};
use trove_benches::Result;
use trove_core::{
    id::InstanceId,
    rpc::Transport,
    rpc::{
        Address, Amqp, Broker, BrokerLogin, DropCounters, InstanceKey, KeyRing, Management, NotificationHandler,
        Notifier, OnGuestRestart, RequestHandler, RpcClient, RpcServer,
    },
    secret::generate_password,
};
use zeroize::Zeroizing;

const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The control plane's end: calls a guest and counts its notifications.
pub(super) struct ControlEnd {
    client: RpcClient,
    counter: Arc<NotificationCounter>,
}

/// The guest's end: echoes calls and sends notifications. Stops when dropped.
pub(super) struct GuestEnd {
    notifier: Notifier,
    _stop: DropGuard,
}

/// The identity of a guest.
#[derive(Clone)]
pub(super) struct Guest {
    pub(super) instance: InstanceId,
    pub(super) key: InstanceKey,
    pub(super) login: BrokerLogin,
}

#[derive(Default)]
struct NotificationCounter(AtomicUsize);

struct Echo;

impl Guest {
    /// Creates a guest with a broker user and queues.
    pub(super) async fn create(management: &Management, control: &Amqp) -> Result<Self> {
        let (instance, key) = (InstanceId::new_v4(), InstanceKey::generate(1)?);
        let login = BrokerLogin::for_guest(instance, 1, generate_password(22)?);
        management.ensure_guest(instance, &login).await?;
        for address in [Address::guest(instance), Address::control(instance)] {
            control.create(&address).await?;
        }
        Ok(Self { instance, key, login })
    }
}

impl ControlEnd {
    pub(super) async fn open(control: &Amqp, guest: &Guest) -> Result<Self> {
        let counter = Arc::new(NotificationCounter::default());
        let (transport, handler, drops) = (Arc::new(control.clone()), counter.clone(), DropCounters::new());
        let client = RpcClient::open(transport, guest.instance, guest.key.clone(), handler, drops).await?;
        Ok(Self { client, counter })
    }

    /// Calls the guest, which has to return the payload.
    pub(super) async fn call(&self, payload: &[u8]) -> Result<()> {
        let response = self.client.call(payload, OnGuestRestart::Resend, CALL_TIMEOUT).await?;
        if response.as_slice() == payload { Ok(()) } else { Err("the guest returned another payload".into()) }
    }

    /// Returns the number of received notifications.
    pub(super) fn notification_count(&self) -> usize {
        self.counter.0.load(Ordering::Relaxed)
    }
}

impl GuestEnd {
    pub(super) fn serve(broker: Broker, guest: Guest) -> Result<Self> {
        let (notifier, stop) = (Notifier::new(), CancellationToken::new());
        let Guest { instance, key, login } = guest;
        let transport = Arc::new(Amqp::new(broker, login));
        let (keys, drops) = (KeyRing::new(key), DropCounters::new());
        let server = RpcServer::new(transport, instance, keys, Arc::new(Echo), notifier.clone(), drops)?;
        tokio::spawn(server.run(stop.clone()));
        Ok(Self { notifier, _stop: stop.drop_guard() })
    }

    /// Sends a notification and waits until the broker has confirmed it.
    pub(super) async fn notify(&self, payload: &[u8]) {
        self.notifier.notify_and_flush(payload.to_vec().into()).await;
    }
}

#[async_trait]
impl NotificationHandler for NotificationCounter {
    async fn handle(&self, _payload: &[u8]) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl RequestHandler for Echo {
    async fn handle(&self, payload: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
        payload
    }
}
