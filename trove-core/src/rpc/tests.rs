//! Client and server over a transport that loses, duplicates and replays frames.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::{join_all, ready};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{
    Address, DropCounters, DropReason, InProcess, InstanceKey, KeyRing, NotificationHandler, Notifier, OnGuestRestart,
    QueueConsumer, RequestHandler, RpcClient, RpcServer, SendFuture, Transport,
};
use crate::{
    error::{Effect, Kind, Result},
    id::InstanceId,
};

const LIMIT: Duration = Duration::from_secs(3600);

type SentFrames = Vec<(Address, Vec<u8>)>;

/// A transport that records all frames, and loses and duplicates a percentage of them.
#[derive(Clone, Default)]
struct LossyTransport {
    inner: InProcess,
    sent: Arc<Mutex<SentFrames>>,
    loss: u64,
    duplication: u64,
    seed: Arc<AtomicU64>,
}

#[async_trait]
impl Transport for LossyTransport {
    async fn create(&self, address: &Address) -> Result<()> {
        self.inner.create(address).await
    }

    async fn remove(&self, address: &Address) -> Result<()> {
        self.inner.remove(address).await
    }

    async fn open(&self, address: &Address) -> Result<Box<dyn QueueConsumer>> {
        self.inner.open(address).await
    }

    fn send(&self, address: &Address, frame: Vec<u8>) -> SendFuture {
        self.sent.lock().unwrap().push((*address, frame.clone()));
        if self.percentile() < self.loss {
            return Box::pin(ready(Ok(())));
        }
        if self.percentile() < self.duplication {
            drop(self.inner.send(address, frame.clone()));
        }
        self.inner.send(address, frame)
    }
}

impl LossyTransport {
    /// Returns a pseudo-random number below 100, from a fixed seed.
    fn percentile(&self) -> u64 {
        let next =
            |seed: u64| Some(seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        self.seed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).map_or(0, |seed| (seed >> 33) % 100)
    }
}

/// Replies with the request, and counts requests; delays requests that begin with `wait` until
/// released.
#[derive(Default)]
struct Echo {
    handled: AtomicUsize,
    started: Notify,
    release: Notify,
}

#[async_trait]
impl RequestHandler for Echo {
    async fn handle(&self, request: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
        self.handled.fetch_add(1, Ordering::Relaxed);
        self.started.notify_one();
        if request.starts_with(b"wait") {
            self.release.notified().await;
        }
        request
    }
}

struct ChannelHandler(mpsc::Sender<Vec<u8>>);

#[async_trait]
impl NotificationHandler for ChannelHandler {
    async fn handle(&self, payload: &[u8]) {
        self.0.send(payload.to_vec()).await.unwrap();
    }
}

struct Fixture {
    transport: LossyTransport,
    instance: InstanceId,
    key: InstanceKey,
    keys: KeyRing,
    drops: DropCounters,
    notifications: mpsc::Receiver<Vec<u8>>,
    handler: Arc<ChannelHandler>,
    echo: Arc<Echo>,
}

impl Fixture {
    async fn new(transport: LossyTransport) -> Self {
        let instance = InstanceId::new_v4();
        for address in [Address::guest(instance), Address::control(instance)] {
            transport.create(&address).await.unwrap();
        }
        let (sender, notifications) = mpsc::channel(64);
        let key = InstanceKey::generate(1).unwrap();
        let handler = Arc::new(ChannelHandler(sender));
        Self {
            transport,
            instance,
            keys: KeyRing::new(key.clone()),
            key,
            drops: DropCounters::new(),
            notifications,
            handler,
            echo: Arc::default(),
        }
    }

    async fn client(&self) -> RpcClient {
        let (transport, handler) = (Arc::new(self.transport.clone()), self.handler.clone());
        let client = RpcClient::open(transport, self.instance, self.key.clone(), handler, self.drops.clone());
        client.await.unwrap()
    }

    fn start_guest(&self) -> Guest {
        let transport = Arc::new(self.transport.clone());
        let (instance, key) = (self.instance, self.keys.clone());
        let notifier = Notifier::new();
        let (echo, drops) = (self.echo.clone(), self.drops.clone());
        let server = RpcServer::new(transport, instance, key, echo, notifier.clone(), drops).unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(server.run(stop.clone()));
        Guest { notifier, stop, task }
    }
}

struct Guest {
    notifier: Notifier,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<()>>,
}

impl Guest {
    /// Ends at once, like a process that is killed.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

#[tokio::test(start_paused = true)]
async fn calls_are_handled_once_despite_loss_and_duplication() {
    for (loss, duplication) in [(0, 0), (20, 0), (50, 0), (0, 50), (0, 100), (30, 50), (10, 10)] {
        let mut fixture = Fixture::new(LossyTransport { loss, duplication, ..LossyTransport::default() }).await;
        let (client, guest) = (fixture.client().await, fixture.start_guest());
        let calls = (0..20u32).map(|number| {
            let client = &client;
            async move {
                let text = format!("call {number}");
                let reply = client.call(text.as_bytes(), OnGuestRestart::Fail, LIMIT).await.unwrap();
                assert_eq!(*reply, text.as_bytes());
            }
        });
        join_all(calls).await;
        assert_eq!(fixture.echo.handled.load(Ordering::Relaxed), 20, "loss {loss} %, duplication {duplication} %");
        for number in 0..10u8 {
            guest.notifier.notify(vec![number].into());
        }
        if loss == 0 {
            for number in 0..10u8 {
                assert_eq!(fixture.notifications.recv().await.unwrap(), [number]);
            }
        }
        assert!(duplication == 0 || fixture.drops.count(DropReason::Replayed) > 0);
        guest.stop.cancel();
        guest.task.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_rotation_during_calls_handles_each_call_once() {
    for (loss, duplication) in [(0, 0), (20, 0), (0, 50), (30, 50)] {
        let mut fixture = Fixture::new(LossyTransport { loss, duplication, ..LossyTransport::default() }).await;
        let (client, guest) = (fixture.client().await, fixture.start_guest());
        let old = KeyRing::new(fixture.key.clone());
        let calls = (0..20u32).map(|number| {
            let client = &client;
            async move {
                // Half of them start before the rotation and end after it.
                let text = if number % 2 == 0 { format!("wait {number}") } else { number.to_string() };
                let reply = client.call(text.as_bytes(), OnGuestRestart::Fail, LIMIT).await.unwrap();
                assert_eq!(*reply, text.as_bytes());
            }
        });
        let rotate = async {
            while fixture.echo.handled.load(Ordering::Relaxed) < 20 {
                fixture.echo.started.notified().await;
            }
            let new = InstanceKey::generate(2).unwrap();
            fixture.keys.insert(new.clone());
            let rotated = client.rotate_key(new, LIMIT).await;
            for _ in 0..10 {
                fixture.echo.release.notify_one();
                tokio::task::yield_now().await;
            }
            rotated.unwrap();
            assert_eq!(fixture.keys.activated_above(1).await, 2);
        };
        tokio::join!(join_all(calls), rotate);
        assert_eq!(*client.call(b"new", OnGuestRestart::Fail, LIMIT).await.unwrap(), b"new");
        assert_eq!(fixture.echo.handled.load(Ordering::Relaxed), 21, "loss {loss} %, duplication {duplication} %");

        // A guest with only the old key is not accepted.
        guest.kill().await;
        let new = std::mem::replace(&mut fixture.keys, old);
        let attacker = fixture.start_guest();
        let error = client.call(b"call", OnGuestRestart::Fail, Duration::from_secs(60)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout);
        assert!(fixture.drops.count(DropReason::UnknownKey) > 0);
        attacker.kill().await;
        fixture.keys = new;
        let guest = fixture.start_guest();
        assert_eq!(*client.call(b"there", OnGuestRestart::Resend, LIMIT).await.unwrap(), b"there");
        guest.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_guest_restart_a_call_is_resent_or_fails_with_an_unknown_effect() {
    let fixture = Fixture::new(LossyTransport::default()).await;
    let client = fixture.client().await;
    let again = client.call(b"wait: again", OnGuestRestart::Resend, LIMIT);
    let once = client.call(b"wait: once", OnGuestRestart::Fail, LIMIT);
    let kill = async {
        let guest = fixture.start_guest();
        fixture.echo.started.notified().await;
        while fixture.echo.handled.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
        guest.kill().await;
        let guest = fixture.start_guest();
        fixture.echo.release.notify_one();
        guest
    };
    let (again, once, guest) = tokio::join!(again, once, kill);
    assert_eq!(*again.unwrap(), b"wait: again");
    let error = once.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Unavailable, Effect::Unknown));
    // A restarted control plane connects to the running guest.
    drop(client);
    tokio::task::yield_now().await;
    let client = fixture.client().await;
    assert_eq!(*client.call(b"hello", OnGuestRestart::Fail, LIMIT).await.unwrap(), b"hello");
    guest.kill().await;
    let gone = client.call(b"call", OnGuestRestart::Resend, LIMIT).await.unwrap_err();
    assert_eq!(gone.kind(), Kind::Timeout);
}

#[tokio::test(start_paused = true)]
async fn replayed_frames_have_no_effect_after_restarts() {
    let mut fixture = Fixture::new(LossyTransport::default()).await;
    let (mut client, mut guest) = (fixture.client().await, fixture.start_guest());
    for round in 0..4 {
        client.call(b"call", OnGuestRestart::Resend, LIMIT).await.unwrap();
        guest.notifier.notify_and_flush(b"state".to_vec().into()).await;
        assert_eq!(fixture.notifications.recv().await.unwrap(), b"state");
        if round % 2 == 1 {
            guest.kill().await;
            guest = fixture.start_guest();
        } else {
            drop(client);
            tokio::task::yield_now().await;
            client = fixture.client().await;
        }
        let old = fixture.transport.sent.lock().unwrap().clone();
        for (address, frame) in &old {
            fixture.transport.inner.send(address, frame.clone()).await.unwrap();
        }
    }
    client.call(b"call", OnGuestRestart::Resend, LIMIT).await.unwrap();
    guest.notifier.notify(b"end".to_vec().into());
    assert_eq!(fixture.notifications.recv().await.unwrap(), b"end", "a replayed notification was accepted");
    assert_eq!(fixture.echo.handled.load(Ordering::Relaxed), 5);
}

#[tokio::test(start_paused = true)]
async fn a_second_server_of_the_same_guest_is_rejected() {
    let fixture = Fixture::new(LossyTransport::default()).await;
    let (client, guest) = (fixture.client().await, fixture.start_guest());
    client.call(b"first", OnGuestRestart::Resend, LIMIT).await.unwrap();
    let second = fixture.start_guest();
    assert_eq!(second.task.await.unwrap().unwrap_err().kind(), Kind::Conflict);
    client.call(b"still first", OnGuestRestart::Resend, LIMIT).await.unwrap();
    drop(guest);
}

#[tokio::test(start_paused = true)]
async fn invalid_frames_are_dropped_and_counted_by_reason() {
    let fixture = Fixture::new(LossyTransport::default()).await;
    let (client, _guest) = (fixture.client().await, fixture.start_guest());
    client.call(b"a", OnGuestRestart::Resend, LIMIT).await.unwrap();
    let sent = fixture.transport.sent.lock().unwrap().clone();
    let (to, good) = sent.iter().rfind(|(address, _)| *address == Address::guest(fixture.instance)).unwrap();
    let changed = |at: usize| {
        let mut frame = good.clone();
        frame[at] ^= 1;
        frame
    };
    for (frame, reason) in [
        (b"{\"method\": \"stop\"}".to_vec(), DropReason::Malformed),
        (vec![0; 100], DropReason::Malformed),
        (changed(4), DropReason::UnknownKey),
        (changed(8), DropReason::Misdirected),
        (changed(25), DropReason::NoSession),
        (changed(60), DropReason::Forged),
        (changed(good.len() - 1), DropReason::Forged),
        (good.clone(), DropReason::Replayed),
    ] {
        let before = fixture.drops.count(reason);
        fixture.transport.inner.send(to, frame).await.unwrap();
        client.call(b"a", OnGuestRestart::Resend, LIMIT).await.unwrap();
        assert_eq!(fixture.drops.count(reason), before + 1, "{reason:?}");
    }
}

/// Panics on requests that begin with `panic`.
struct PanickingHandler;

#[async_trait]
impl RequestHandler for PanickingHandler {
    async fn handle(&self, request: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
        assert!(!request.starts_with(b"panic"), "requested by the test");
        request
    }
}

#[tokio::test(start_paused = true)]
async fn panicking_handlers_do_not_block_later_calls() {
    let fixture = Fixture::new(LossyTransport::default()).await;
    let (transport, instance) = (Arc::new(fixture.transport.clone()), fixture.instance);
    let (key, drops) = (fixture.keys.clone(), fixture.drops.clone());
    let server = RpcServer::new(transport, instance, key, Arc::new(PanickingHandler), Notifier::new(), drops).unwrap();
    let guest = tokio::spawn(server.run(CancellationToken::new()));
    let client = fixture.client().await;
    for _ in 0..3 {
        let calls = (0..200).map(|_| client.call(b"panic", OnGuestRestart::Fail, Duration::from_secs(1)));
        for reply in join_all(calls).await {
            assert_eq!(reply.unwrap_err().kind(), Kind::Timeout);
        }
    }
    assert_eq!(*client.call(b"still there", OnGuestRestart::Fail, LIMIT).await.unwrap(), b"still there");
    guest.abort();
}

#[tokio::test(start_paused = true)]
async fn notifications_arrive_although_the_first_offer_was_lost() {
    let mut fixture = Fixture::new(LossyTransport::default()).await;
    let (client, guest) = (fixture.client().await, fixture.start_guest());
    client.call(b"a", OnGuestRestart::Resend, LIMIT).await.unwrap();
    drop(client);
    tokio::task::yield_now().await;
    let losing = LossyTransport { loss: 100, ..fixture.transport.clone() };
    let lossless = std::mem::replace(&mut fixture.transport, losing);
    let frames = || lossless.sent.lock().unwrap().len();
    let before = frames();
    let client = fixture.client().await;
    while frames() == before {
        tokio::task::yield_now().await;
    }
    drop(client);
    tokio::task::yield_now().await;
    fixture.transport = lossless;
    let _client = fixture.client().await;
    // At first the guest sends notifications in a session that is over.
    let received = async {
        loop {
            guest.notifier.notify(b"state".to_vec().into());
            if let Ok(notification) = tokio::time::timeout(Duration::from_secs(1), fixture.notifications.recv()).await {
                return notification.unwrap();
            }
        }
    };
    assert_eq!(tokio::time::timeout(LIMIT, received).await.expect("no notification arrived"), b"state");
}

#[tokio::test(start_paused = true)]
async fn calls_fail_when_a_queue_was_deleted() {
    for side in [Address::control, Address::guest] {
        let fixture = Fixture::new(LossyTransport::default()).await;
        let (client, guest) = (fixture.client().await, fixture.start_guest());
        let removed = async {
            fixture.echo.started.notified().await;
            fixture.transport.remove(&side(fixture.instance)).await.unwrap();
        };
        let (in_flight, ()) = tokio::join!(client.call(b"wait", OnGuestRestart::Resend, LIMIT), removed);
        let in_flight = in_flight.unwrap_err();
        assert_eq!((in_flight.kind(), in_flight.effect()), (Kind::Unavailable, Effect::Unknown));
        let later = client.call(b"later", OnGuestRestart::Resend, LIMIT).await.unwrap_err();
        assert_eq!((later.kind(), later.effect()), (Kind::Unavailable, Effect::None));
        guest.kill().await;
    }
}
