//! A broker that is unavailable and a network that fails: each request takes effect once, or
//! returns an error.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use trove_core::{
    Trove,
    conformance::memory::World,
    control::{InstanceHandle, NewConfiguration, NewInstance},
    error::{Effect, Kind, Result},
    events::EventStream,
    id::{InstanceId, OperationId},
    layer::FaultAction,
    model::{EventKind, Flavor, NewDatabase, NewUser, OperationError, gib, mib},
    rpc::{
        self, Address, BrokerLogin, DropCounters, InstanceKey, KeyRing, MessageBroker, NotificationHandler, Notifier,
        OnGuestRestart, RequestHandler, RpcClient, RpcServer,
    },
};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    broker::RabbitMq,
    proxy::{Proxy, Traffic},
    remote_agent::{GuestPlacement, RemoteAgents, fast_settings, users},
};

/// Bounds how long a broken test hangs.
const TIMEOUT: Duration = Duration::from_secs(600);

/// The proxies between a broker and a service with its guests.
struct BrokerAccess {
    broker: Arc<RabbitMq>,
    frames: Proxy,
    management: Proxy,
}

impl BrokerAccess {
    async fn through_proxies(broker: Arc<RabbitMq>) -> Self {
        let (frames, management) = (Proxy::to(broker.host(), 5672).await, Proxy::to(broker.host(), 15672).await);
        Self { broker, frames, management }
    }

    fn bus(&self) -> rpc::RabbitMq {
        self.broker.bus_through(self.frames.port, self.management.port)
    }

    async fn restart(&self, signal: &'static str) {
        self.broker.restart(signal).await;
        self.frames.set_target(self.broker.host());
        self.management.set_target(self.broker.host());
    }
}

/// Starts a service that calls its guests through the proxies.
async fn start(access: &BrokerAccess, apart: &RemoteAgents, guests: GuestPlacement) -> Trove {
    let platform = if guests == GuestPlacement::Remote { apart.platform() } else { apart.world.platform() };
    let service = Trove::builder()
        .message_broker(access.bus())
        .store(format!("sqlite:{}", apart.directory.path().join("trove.db").display()))
        .platform(platform)
        .datastore(apart.world.driver())
        .flavor(Flavor::new("small", mib(512), 1))
        .flavor(Flavor::new("large", gib(2), 2))
        .guest_settings(fast_settings());
    service.start().await.unwrap()
}

/// Counts calls that changed servers.
#[derive(Clone, Default)]
struct Effects(Arc<Mutex<BTreeMap<String, usize>>>);

impl Effects {
    fn on(world: &World) -> Self {
        let effects = Self::default();
        let noted = effects.clone();
        world.script(move |_, call| {
            if call.changes {
                let what = format!("{} {:?}", call.name, call.arguments);
                *noted.0.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += 1;
            }
            FaultAction::Proceed
        });
        effects
    }

    /// Returns the number of calls of this name.
    fn count(&self, name: &str) -> usize {
        let effects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let used = effects.iter().filter(|(what, _)| what.split(' ').next() == Some(name));
        used.map(|(_, times)| times).sum()
    }

    /// Returns the account changes that were made more than once.
    fn repeated(&self) -> Vec<String> {
        let effects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let repeated = effects.iter().filter(|(what, times)| what.starts_with("accounts.") && **times > 1);
        repeated.map(|(what, times)| format!("{times} times {what}")).collect()
    }
}

/// Creates an instance and runs every kind of operation on it once.
async fn run_lifecycle(trove: &Trove, name: &str) -> InstanceId {
    let new = NewInstance::new(name, "memory").database("app").user("app", "secret");
    let instance = trove.create(new).await.unwrap().active().await.unwrap();
    let accounts = instance.accounts();
    let user = |number: usize| format!("{name}{number}");
    let made = (0..8).map(|number| accounts.create_users([NewUser::new(user(number), "secret")]));
    for made in join_all(made).await {
        made.unwrap();
    }
    let group = NewConfiguration::new(name, "memory").set("max_rows", 5);
    let group = trove.configurations().create(group).await.unwrap();
    instance.configure(group.id).await.unwrap().wait().await.unwrap();
    instance.resize("large").await.unwrap().wait().await.unwrap();
    instance.stop().await.unwrap().wait().await.unwrap();
    instance.start().await.unwrap().active().await.unwrap();
    let rotation = instance.rotate_identity().await.unwrap();
    let changes = async {
        retry_while_busy(async || accounts.create_databases([NewDatabase::new(name)]).await).await;
        for number in 1..8 {
            let other = format!("{name}{number}x");
            retry_while_busy(async || accounts.rename_user(user(number).as_str(), other.as_str()).await).await;
            retry_while_busy(async || accounts.drop_user(other.as_str()).await).await;
        }
    };
    let (rotated, ()) = tokio::join!(rotation.wait(), changes);
    rotated.unwrap();
    instance.id
}

/// Retries an account change while another operation runs; a busy instance must be unchanged.
async fn retry_while_busy(change: impl AsyncFn() -> Result<()>) {
    while let Err(error) = change().await {
        assert_eq!((error.kind(), error.effect()), (Kind::Busy, Effect::None), "{error}");
        tokio::task::yield_now().await;
    }
}

/// Runs the life cycle of several instances concurrently with this network behavior, and returns
/// how often connections broke.
async fn run_lifecycles(traffic: Traffic, guests: GuestPlacement, names: &[&str]) -> usize {
    let (access, apart) = (BrokerAccess::through_proxies(RabbitMq::shared().await).await, RemoteAgents::new());
    let effects = Effects::on(&apart.world);
    access.frames.set(traffic);
    let trove = start(&access, &apart, guests).await;
    let instances = timeout(TIMEOUT, join_all(names.iter().map(|name| run_lifecycle(&trove, name)))).await.unwrap();
    for (id, name) in instances.into_iter().zip(names) {
        let users = ["app", &format!("{name}0")];
        assert!(apart.world.serves(id, &["app", name], &users));
        trove.instance(id).await.unwrap().delete().await.unwrap().wait().await.unwrap();
        assert_eq!(access.broker.resources_of(&id.to_string()), [""; 0]);
    }
    assert_eq!(effects.repeated(), [""; 0]);
    for job in ["prepare", "configuration.apply", "resize.resize", "stop", "start"] {
        assert_eq!(effects.count(job), names.len(), "{job}");
    }
    trove.shut_down().await;
    access.frames.breaks()
}

#[tokio::test(flavor = "multi_thread")]
async fn effects_happen_exactly_once_while_connections_break_repeatedly() {
    let breaking = [GuestPlacement::InProcess, GuestPlacement::Remote]
        .map(|guests| run_lifecycles(Traffic::BreakEvery(5000), guests, &["one"]));
    for breaks in join_all(breaking).await {
        assert!(breaks > 8, "only {breaks} times");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn effects_happen_exactly_once_on_a_slow_network() {
    let traffic = Traffic::Delay(Duration::from_millis(30));
    tokio::join!(
        run_lifecycles(traffic, GuestPlacement::InProcess, &["one"]),
        run_lifecycles(traffic, GuestPlacement::Remote, &["two"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_continue_across_a_broker_restart() {
    let access = BrokerAccess::through_proxies(Arc::new(RabbitMq::own().await)).await;
    let (here, apart) = tokio::join!(
        Workload::start(&access, GuestPlacement::InProcess),
        Workload::start(&access, GuestPlacement::Remote)
    );
    let through = async {
        for signal in ["TERM", "KILL"] {
            let restarted = AtomicBool::new(false);
            let restart = async {
                access.restart(signal).await;
                restarted.store(true, Ordering::Relaxed);
            };
            tokio::join!(restart, here.work(signal, &restarted), apart.work(signal, &restarted));
        }
        here.assert_each_once();
        apart.assert_each_once();
        tokio::join!(here.end(&access), apart.end(&access));
    };
    timeout(TIMEOUT, through).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_reconnect_after_the_broker_lost_its_state() {
    let access = BrokerAccess::through_proxies(Arc::new(RabbitMq::own().await)).await;
    let (here, apart) = tokio::join!(
        Workload::start(&access, GuestPlacement::InProcess),
        Workload::start(&access, GuestPlacement::Remote)
    );
    let through = async {
        let was_reset = AtomicBool::new(false);
        let reset = async {
            access.broker.reset().await;
            was_reset.store(true, Ordering::Relaxed);
        };
        tokio::join!(reset, here.serve(&was_reset), apart.serve(&was_reset));
        tokio::join!(users(&here.accounts), users(&apart.accounts));
        tokio::join!(here.work("forgotten", &was_reset), apart.work("forgotten", &was_reset));
        // An in-process agent is re-created with its queue and repeats its current job, so only
        // remote agents are checked.
        apart.assert_each_once();
        tokio::join!(here.end(&access), apart.end(&access));
    };
    timeout(TIMEOUT, through).await.unwrap();
}

/// A service with two instances that are changed repeatedly.
struct Workload {
    apart: RemoteAgents,
    effects: Effects,
    trove: Trove,
    accounts: InstanceHandle,
    server: InstanceHandle,
    rounds: AtomicUsize,
}

impl Workload {
    async fn start(access: &BrokerAccess, guests: GuestPlacement) -> Self {
        let apart = RemoteAgents::new();
        let (effects, trove) = (Effects::on(&apart.world), start(access, &apart, guests).await);
        let new = async |name| trove.create(NewInstance::new(name, "memory")).await.unwrap().active().await.unwrap();
        let (accounts, server) = tokio::join!(new("accounts"), new("server"));
        Self { apart, effects, trove, accounts, server, rounds: AtomicUsize::new(0) }
    }

    /// Changes accounts and restarts the server until `over` is true, at least once.
    async fn work(&self, round: &str, over: &AtomicBool) {
        let accounts = async {
            let accounts = self.accounts.accounts();
            for number in 0.. {
                let name = format!("{round}{number}").to_lowercase();
                accounts.create_users([NewUser::new(name.as_str(), "secret")]).await.unwrap();
                accounts.drop_user(name.as_str()).await.unwrap();
                if over.load(Ordering::Relaxed) {
                    return;
                }
            }
        };
        tokio::join!(accounts, self.serve(over));
    }

    /// Stops and starts the server until `over` is true, at least once.
    async fn serve(&self, over: &AtomicBool) {
        loop {
            self.server.stop().await.unwrap().wait().await.unwrap();
            self.server.start().await.unwrap().active().await.unwrap();
            self.rounds.fetch_add(1, Ordering::Relaxed);
            if over.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    fn assert_each_once(&self) {
        let rounds = self.rounds.load(Ordering::Relaxed);
        assert_eq!((self.effects.count("stop"), self.effects.count("start")), (rounds, rounds));
    }

    async fn end(&self, access: &BrokerAccess) {
        assert_eq!(self.effects.repeated(), [""; 0]);
        for instance in [&self.accounts, &self.server] {
            assert!(self.apart.world.serves(instance.id, &[], &[]));
            assert_eq!(access.broker.resources_of(&instance.id.to_string()), ["users", "queues", "exchanges"]);
            instance.delete().await.unwrap().wait().await.unwrap();
            assert_eq!(access.broker.resources_of(&instance.id.to_string()), [""; 0]);
        }
        self.trove.shut_down().await;
    }
}

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
    let (access, instance) = (BrokerAccess::through_proxies(RabbitMq::shared().await).await, InstanceId::new_v4());
    let (bus, key) = (access.bus(), InstanceKey::generate(1).unwrap());
    let (control, mailboxes) = (bus.control(), [Address::guest(instance), Address::control(instance)]);
    for address in &mailboxes {
        control.create(address).await.unwrap();
    }
    let login = BrokerLogin::for_guest(instance, 1, Uuid::new_v4().to_string());
    let guest = bus.authorize(instance, &login).await.unwrap().connect(vec![login.clone()]);
    let (echo, refusals, stop) = (Arc::new(Echo::default()), DropCounters::new(), CancellationToken::new());
    let keys = KeyRing::new(key.clone());
    let service = RpcServer::new(guest, instance, keys, echo.clone(), Notifier::new(), refusals.clone()).unwrap();
    let service = tokio::spawn(service.run(stop.clone()));
    let line = RpcClient::open(control.clone(), instance, key, Arc::new(IgnoreNotifications), refusals).await.unwrap();
    assert_eq!(*line.call(b"before", OnGuestRestart::Fail, TIMEOUT).await.unwrap(), b"before");

    access.frames.set(Traffic::Stall);
    access.management.set(Traffic::Stall);
    let silence = async {
        let short = Duration::from_secs(2);
        let (stranger, nobody) = (access.bus().control(), InstanceId::new_v4());
        let elsewhere = Address::guest(nobody);
        let failed = tokio::join!(
            async { line.call(b"again", OnGuestRestart::Resend, short).await.map(drop) },
            async { line.call(b"once", OnGuestRestart::Fail, short).await.map(drop) },
            control.send(&mailboxes[0], b"no frame".to_vec()),
            control.create(&elsewhere),
            stranger.send(&mailboxes[0], b"no frame".to_vec()),
            async { bus.authorize(nobody, &login).await.map(drop) },
        );
        let (again, once, sent, created, connected, admitted) = failed;
        let failed = [again, once, sent, created, connected, admitted].map(|failed| failed.unwrap_err());
        access.frames.set(Traffic::Forward);
        access.management.set(Traffic::Forward);
        failed.map(|error| (error.kind(), error.is_transient()))
    };
    let patient = line.call(b"patient", OnGuestRestart::Fail, TIMEOUT);
    let (failed, answer) = timeout(TIMEOUT, async { tokio::join!(silence, patient) }).await.unwrap();
    let (late, away) = ((Kind::Timeout, true), (Kind::Unavailable, true));
    assert_eq!(failed, [late, late, late, away, away, away]);
    assert_eq!(*answer.unwrap(), b"patient");
    assert_eq!(*line.call(b"after", OnGuestRestart::Fail, TIMEOUT).await.unwrap(), b"after");
    assert!(echo.heard().values().all(|times| *times == 1), "{:?}", echo.heard());

    stop.cancel();
    service.await.unwrap().unwrap();
    bus.revoke(&login.user).await.unwrap();
    for address in &mailboxes {
        control.remove(address).await.unwrap();
    }
}

/// Returns each request as its response, and counts requests.
#[derive(Default)]
struct Echo(Mutex<BTreeMap<String, usize>>);

impl Echo {
    fn heard(&self) -> BTreeMap<String, usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl RequestHandler for Echo {
    async fn handle(&self, text: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
        let asked = String::from_utf8(text.to_vec()).unwrap();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(asked).or_default() += 1;
        text
    }
}

struct IgnoreNotifications;

#[async_trait]
impl NotificationHandler for IgnoreNotifications {
    async fn handle(&self, _text: &[u8]) {}
}

/// Waits until an attempt of an operation fails, and returns the error.
async fn failure(events: &mut EventStream, of: OperationId) -> OperationError {
    loop {
        match events.next().await.unwrap().kind {
            EventKind::Failed { operation, error, .. } if operation == of => return error,
            _ => {}
        }
    }
}

/// Runs an operation during a stall that is long enough for a connection to be replaced.
async fn operations_during_stall(guests: GuestPlacement) {
    let (access, apart) = (BrokerAccess::through_proxies(RabbitMq::shared().await).await, RemoteAgents::new());
    let (effects, trove) = (Effects::on(&apart.world), start(&access, &apart, guests).await);
    let instance = trove.create(NewInstance::new("orders", "memory")).await.unwrap().active().await.unwrap();
    let mut events = trove.events();
    access.frames.set(Traffic::Stall);
    let (another, stop) = (access.frames.connected(), instance.stop().await.unwrap());
    let failed = failure(&mut events, stop.id()).await;
    assert_eq!(failed.kind, Kind::Timeout, "{failed:?}");
    another.await;
    access.frames.set(Traffic::Forward);
    stop.wait().await.unwrap();
    assert!(apart.world.is_stopped(instance.id));
    instance.start().await.unwrap().active().await.unwrap();
    assert_eq!((effects.count("stop"), effects.count("start")), (1, 1), "{guests:?}");
    instance.delete().await.unwrap().wait().await.unwrap();
    trove.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sending_to_a_full_queue_fails_until_it_is_drained() {
    let (access, apart) = (BrokerAccess::through_proxies(RabbitMq::shared().await).await, RemoteAgents::new());
    let (effects, trove) = (Effects::on(&apart.world), start(&access, &apart, GuestPlacement::Remote).await);
    let instance = trove.create(NewInstance::new("orders", "memory")).await.unwrap().active().await.unwrap();
    let (id, mut events, control) = (instance.id, trove.events(), access.bus().control());
    let fill = async |address: Address| {
        let full = loop {
            let sent = join_all((0..64).map(|_| control.send(&address, b"no frame".to_vec()))).await;
            if let Some(error) = sent.into_iter().find_map(Result::err) {
                break error;
            }
        };
        assert_eq!((full.kind(), full.effect()), (Kind::Busy, Effect::None), "{full:?}");
    };
    let guest_away = async {
        apart.end(id).await.unwrap().unwrap();
        fill(Address::guest(id)).await;
        let stop = instance.stop().await.unwrap();
        let failed = failure(&mut events, stop.id()).await;
        assert_eq!(failed.kind, Kind::Timeout, "{failed:?}");
        apart.restart(id);
        stop.wait().await.unwrap();
        instance.start().await.unwrap().active().await.unwrap();
        assert_eq!((effects.count("stop"), effects.count("start")), (1, 1));
    };
    timeout(TIMEOUT, guest_away).await.unwrap();

    let control_away = async {
        trove.shut_down().await;
        fill(Address::control(id)).await;
        let trove = start(&access, &apart, GuestPlacement::Remote).await;
        let instance = trove.instance(id).await.unwrap();
        assert_eq!(users(&instance).await, 0);
        instance.delete().await.unwrap().wait().await.unwrap();
        trove.shut_down().await;
    };
    timeout(TIMEOUT, control_away).await.unwrap();
}
