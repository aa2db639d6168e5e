//! Sealed messages as the library sends them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use trove_benches::Result;
use trove_core::{
    id::InstanceId,
    rpc::Transport,
    rpc::{
        Address, Amqp, Broker, BrokerLogin, DropCounters, InstanceKey, KeyRing, NotificationHandler, Notifier,
        OnGuestRestart, RequestHandler, RpcClient, RpcServer,
    },
};
use zeroize::Zeroizing;

const LIMIT: Duration = Duration::from_secs(30);

/// The control plane's end of a line.
pub(super) struct Control {
    line: RpcClient,
    counter: Arc<Counter>,
}

/// A guest who answers with what it was asked. Dropped, it ends.
pub(super) struct Guest {
    teller: Notifier,
    _stop: tokio_util::sync::DropGuard,
}

/// Who a guest is.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) instance: InstanceId,
    pub(super) key: InstanceKey,
    pub(super) login: BrokerLogin,
}

/// Counts what it is told.
#[derive(Default)]
struct Counter(AtomicUsize);

struct Echo;

impl Identity {
    /// A guest that the broker lets in, with mailboxes.
    pub(super) async fn make(management: &trove_core::rpc::Management, control: &Amqp) -> Result<Self> {
        let (instance, key) = (InstanceId::new_v4(), InstanceKey::generate(1)?);
        let password = trove_core::secret::generate_password(22)?;
        let login = BrokerLogin::for_guest(instance, 1, password);
        management.ensure_guest(instance, &login).await?;
        for address in [Address::guest(instance), Address::control(instance)] {
            control.create(&address).await?;
        }
        Ok(Self { instance, key, login })
    }
}

impl Control {
    pub(super) async fn open(control: &Amqp, guest: &Identity) -> Result<Self> {
        let counter = Arc::new(Counter::default());
        let (transport, listener) = (Arc::new(control.clone()), counter.clone());
        let line = RpcClient::open(transport, guest.instance, guest.key.clone(), listener, DropCounters::new()).await?;
        Ok(Self { line, counter })
    }

    /// Asks the guest, who has to say the same.
    pub(super) async fn call(&self, text: &[u8]) -> Result<()> {
        let answer = self.line.call(text, OnGuestRestart::Resend, LIMIT).await?;
        if answer.as_slice() == text { Ok(()) } else { Err("another answer".into()) }
    }

    /// How often it was told something.
    pub(super) fn heard(&self) -> usize {
        self.counter.0.load(Ordering::Relaxed)
    }
}

impl Guest {
    pub(super) fn serve(broker: Broker, guest: Identity) -> Result<Self> {
        let (teller, stop) = (Notifier::new(), CancellationToken::new());
        let Identity { instance, key, login } = guest;
        let transport = Arc::new(Amqp::new(broker, login));
        let (keys, drops) = (KeyRing::new(key), DropCounters::new());
        let service = RpcServer::new(transport, instance, keys, Arc::new(Echo), teller.clone(), drops)?;
        tokio::spawn(service.run(stop.clone()));
        Ok(Self { teller, _stop: stop.drop_guard() })
    }

    pub(super) async fn tell(&self, text: &[u8]) {
        self.teller.notify_and_flush(text.to_vec().into()).await;
    }
}

#[async_trait]
impl NotificationHandler for Counter {
    async fn handle(&self, _text: &[u8]) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl RequestHandler for Echo {
    async fn handle(&self, text: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
        text
    }
}
