//! A network that forwards nothing for longer than the timeouts of calls.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use trove_core::{
    control::NewInstance,
    error::{Kind, Result},
    id::InstanceId,
    rpc::{
        Address, BrokerLogin, DropCounters, InstanceKey, KeyRing, MessageBroker, NotificationHandler, Notifier,
        OnGuestRestart, RequestHandler, RpcClient, RpcServer,
    },
};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    TIMEOUT,
    fixture::{BrokerAccess, Effects, failure, start},
};
use crate::{
    broker::RabbitMqContainer,
    proxy::Traffic,
    remote_agent::{GuestPlacement, RemoteAgents},
};

#[tokio::test(flavor = "multi_thread")]
async fn calls_time_out_on_a_stalled_network_and_take_effect_once_afterwards() {
    let operations = async {
        tokio::join!(
            operations_during_stall(GuestPlacement::InProcess),
            operations_during_stall(GuestPlacement::Remote)
        )
    };
    timeout(TIMEOUT, async { tokio::join!(calls_during_stall(), operations) }).await.unwrap();
}

/// Calls and frames during a stall that is longer than their timeouts.
async fn calls_during_stall() {
    let (access, instance) =
        (BrokerAccess::through_proxies(RabbitMqContainer::shared().await).await, InstanceId::new_v4());
    let (broker, key) = (access.message_broker(), InstanceKey::generate(1).unwrap());
    let (control, queues) = (broker.control(), [Address::guest(instance), Address::control(instance)]);
    for address in &queues {
        retry(async || control.create(address).await).await;
    }
    let login = BrokerLogin::for_guest(instance, 1, Uuid::new_v4().to_string());
    let guest = broker.authorize(instance, &login).await.unwrap().connect(vec![login.clone()]);
    let (echo, drops, stop) = (Arc::new(Echo::default()), DropCounters::new(), CancellationToken::new());
    let keys = KeyRing::new(key.clone());
    let server = RpcServer::new(guest, instance, keys, echo.clone(), Notifier::new(), drops.clone()).unwrap();
    let server = tokio::spawn(server.run(stop.clone()));
    let client = RpcClient::open(control.clone(), instance, key, Arc::new(IgnoreNotifications), drops).await.unwrap();
    assert_eq!(*client.call(b"before", OnGuestRestart::Fail, TIMEOUT).await.unwrap(), b"before");

    access.frames.set(Traffic::Stall);
    access.management.set(Traffic::Stall);
    let stalled = async {
        let short = Duration::from_secs(2);
        let (unconnected, unknown) = (access.message_broker().control(), InstanceId::new_v4());
        let new_queue = Address::guest(unknown);
        let failed = tokio::join!(
            async { client.call(b"again", OnGuestRestart::Resend, short).await.map(drop) },
            async { client.call(b"once", OnGuestRestart::Fail, short).await.map(drop) },
            control.send(&queues[0], b"junk".to_vec()),
            control.create(&new_queue),
            unconnected.send(&queues[0], b"junk".to_vec()),
            async { broker.authorize(unknown, &login).await.map(drop) },
        );
        let (again, once, sent, created, connected, authorized) = failed;
        let failed = [again, once, sent, created, connected, authorized].map(|failed| failed.unwrap_err());
        access.frames.set(Traffic::Forward);
        access.management.set(Traffic::Forward);
        failed.map(|error| (error.kind(), error.is_transient()))
    };
    let patient = client.call(b"patient", OnGuestRestart::Fail, TIMEOUT);
    let (failed, response) = timeout(TIMEOUT, async { tokio::join!(stalled, patient) }).await.unwrap();
    let (timeout_error, unavailable) = ((Kind::Timeout, true), (Kind::Unavailable, true));
    assert_eq!(failed, [timeout_error, timeout_error, timeout_error, unavailable, unavailable, unavailable]);
    assert_eq!(*response.unwrap(), b"patient");
    assert_eq!(*client.call(b"after", OnGuestRestart::Fail, TIMEOUT).await.unwrap(), b"after");
    assert!(echo.requests().values().all(|times| *times == 1), "{:?}", echo.requests());

    stop.cancel();
    server.await.unwrap().unwrap();
    retry(async || broker.revoke(&login.user).await).await;
    for address in &queues {
        retry(async || control.remove(address).await).await;
    }
}

/// Repeats a call while a busy broker does not respond in time.
async fn retry(call: impl AsyncFn() -> Result<()>) {
    while let Err(error) = call().await {
        assert!(error.is_transient(), "{error:?}");
    }
}

/// Returns each request as its response, and counts requests.
#[derive(Default)]
struct Echo(Mutex<BTreeMap<String, usize>>);

impl Echo {
    fn requests(&self) -> BTreeMap<String, usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl RequestHandler for Echo {
    async fn handle(&self, text: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
        let request = String::from_utf8(text.to_vec()).unwrap();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(request).or_default() += 1;
        text
    }
}

struct IgnoreNotifications;

#[async_trait]
impl NotificationHandler for IgnoreNotifications {
    async fn handle(&self, _text: &[u8]) {}
}

/// Runs an operation during a stall that is long enough for a connection to be replaced.
async fn operations_during_stall(guests: GuestPlacement) {
    let (access, agents) =
        (BrokerAccess::through_proxies(RabbitMqContainer::shared().await).await, RemoteAgents::new());
    let (effects, trove) = (Effects::on(&agents.world), start(&access, &agents, guests).await);
    let instance = trove.create(NewInstance::new("orders", "memory")).await.unwrap().active().await.unwrap();
    let mut events = trove.events();
    access.frames.set(Traffic::Stall);
    let (reconnected, stop) = (access.frames.connected(), instance.stop().await.unwrap());
    let failed = failure(&mut events, stop.id()).await;
    assert_eq!(failed.kind, Kind::Timeout, "{failed:?}");
    reconnected.await;
    access.frames.set(Traffic::Forward);
    stop.wait().await.unwrap();
    assert!(agents.world.is_stopped(instance.id));
    instance.start().await.unwrap().active().await.unwrap();
    assert_eq!((effects.count("stop"), effects.count("start")), (1, 1), "{guests:?}");
    instance.delete().await.unwrap().wait().await.unwrap();
    trove.shut_down().await;
}
