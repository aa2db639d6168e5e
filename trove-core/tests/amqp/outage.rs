//! A broker that is away, and a network that fails: what was asked for is done, once, or an error says that it is not.

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
    layer::Verdict,
    model::{EventKind, Flavor, NewDatabase, NewUser, OperationError, gib, mib},
    rpc::{
        self, Address, BrokerLogin, DropCounters, InstanceKey, KeyRing, MessageBroker, NotificationHandler, Notifier,
        OnGuestRestart, RequestHandler, RpcClient, RpcServer,
    },
};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    apart::{Apart, often, users},
    broker::RabbitMq,
    proxy::{Proxy, Weather},
};

/// How long whatever is to happen may take.
const LIMIT: Duration = Duration::from_secs(600);

/// The way to a broker, of a service and its guests.
struct Way {
    broker: Arc<RabbitMq>,
    frames: Proxy,
    management: Proxy,
}

impl Way {
    async fn to(broker: Arc<RabbitMq>) -> Self {
        let (frames, management) = (Proxy::to(broker.host(), 5672).await, Proxy::to(broker.host(), 15672).await);
        Self { broker, frames, management }
    }

    fn bus(&self) -> rpc::RabbitMq {
        self.broker.bus_through(self.frames.port, self.management.port)
    }

    async fn restart(&self, signal: &'static str) {
        self.broker.restart(signal).await;
        self.frames.lead_to(self.broker.host());
        self.management.lead_to(self.broker.host());
    }
}

/// Where guests are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guests {
    Here,
    Apart,
}

/// A service, whose guests are called this way.
async fn start(way: &Way, apart: &Apart, guests: Guests) -> Trove {
    let platform = if guests == Guests::Apart { apart.platform() } else { apart.world.platform() };
    let service = Trove::builder()
        .message_broker(way.bus())
        .store(format!("sqlite:{}", apart.directory.path().join("trove.db").display()))
        .platform(platform)
        .datastore(apart.world.driver())
        .flavor(Flavor::new("small", mib(512), 1))
        .flavor(Flavor::new("large", gib(2), 2))
        .guest_settings(often());
    service.start().await.unwrap()
}

/// What was done to servers, how many times.
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
            Verdict::Proceed
        });
        effects
    }

    /// How many times this ability was used.
    fn count(&self, name: &str) -> usize {
        let effects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let used = effects.iter().filter(|(what, _)| what.split(' ').next() == Some(name));
        used.map(|(_, times)| times).sum()
    }

    /// What was done to accounts more than once.
    fn repeated(&self) -> Vec<String> {
        let effects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let repeated = effects.iter().filter(|(what, times)| what.starts_with("accounts.") && **times > 1);
        repeated.map(|(what, times)| format!("{times} times {what}")).collect()
    }
}

/// Makes an instance and does to it what can be done, each once.
async fn life(trove: &Trove, name: &str) -> InstanceId {
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
        when_free(async || accounts.create_databases([NewDatabase::new(name)]).await).await;
        for number in 1..8 {
            let other = format!("{name}{number}x");
            when_free(async || accounts.rename_user(user(number).as_str(), other.as_str()).await).await;
            when_free(async || accounts.drop_user(other.as_str()).await).await;
        }
    };
    let (rotated, ()) = tokio::join!(rotation.wait(), changes);
    rotated.unwrap();
    instance.id
}

/// Changes accounts, again where an operation came in between: nothing happened then.
async fn when_free(change: impl AsyncFn() -> Result<()>) {
    while let Err(error) = change().await {
        assert_eq!((error.kind(), error.effect()), (Kind::Busy, Effect::None), "{error}");
        tokio::task::yield_now().await;
    }
}

/// Lives of instances at once, in this weather.
async fn lives(weather: Weather, guests: Guests, names: &[&str]) -> usize {
    let (way, apart) = (Way::to(RabbitMq::shared().await).await, Apart::new());
    let effects = Effects::on(&apart.world);
    way.frames.set(weather);
    let trove = start(&way, &apart, guests).await;
    let instances = timeout(LIMIT, join_all(names.iter().map(|name| life(&trove, name)))).await.unwrap();
    for (id, name) in instances.into_iter().zip(names) {
        let users = ["app", &format!("{name}0")];
        assert!(apart.world.serves(id, &["app", name], &users));
        trove.instance(id).await.unwrap().delete().await.unwrap().wait().await.unwrap();
        assert_eq!(way.broker.mentions(&id.to_string()), [""; 0]);
    }
    assert_eq!(effects.repeated(), [""; 0]);
    for job in ["prepare", "configuration.apply", "resize.resize", "stop", "start"] {
        assert_eq!(effects.count(job), names.len(), "{job}");
    }
    trove.shut_down().await;
    way.frames.breaks()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_break_again_and_again_lose_nothing_and_nothing_happens_twice() {
    let breaking = [Guests::Here, Guests::Apart].map(|guests| lives(Weather::Breaking(5000), guests, &["one"]));
    for breaks in join_all(breaking).await {
        assert!(breaks > 8, "only {breaks} times");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_network_is_only_slow() {
    let weather = Weather::Slow(Duration::from_millis(30));
    tokio::join!(lives(weather, Guests::Here, &["one"]), lives(weather, Guests::Apart, &["two"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_goes_on_when_a_broker_is_restarted() {
    let way = Way::to(Arc::new(RabbitMq::own().await)).await;
    let (here, apart) = tokio::join!(Busy::start(&way, Guests::Here), Busy::start(&way, Guests::Apart));
    let through = async {
        for signal in ["TERM", "KILL"] {
            let restarted = AtomicBool::new(false);
            let restart = async {
                way.restart(signal).await;
                restarted.store(true, Ordering::Relaxed);
            };
            tokio::join!(restart, here.work(signal, &restarted), apart.work(signal, &restarted));
        }
        here.did_all_once();
        apart.did_all_once();
        tokio::join!(here.end(&way), apart.end(&way));
    };
    timeout(LIMIT, through).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_are_let_in_again_when_a_broker_lost_all_it_had() {
    let way = Way::to(Arc::new(RabbitMq::own().await)).await;
    let (here, apart) = tokio::join!(Busy::start(&way, Guests::Here), Busy::start(&way, Guests::Apart));
    let through = async {
        let forgotten = AtomicBool::new(false);
        let forget = async {
            way.broker.forget().await;
            forgotten.store(true, Ordering::Relaxed);
        };
        tokio::join!(forget, here.serve(&forgotten), apart.serve(&forgotten));
        tokio::join!(users(&here.accounts), users(&apart.accounts));
        tokio::join!(here.work("forgotten", &forgotten), apart.work("forgotten", &forgotten));
        // An agent here begins anew with its mailbox, and does again what it was about.
        apart.did_all_once();
        tokio::join!(here.end(&way), apart.end(&way));
    };
    timeout(LIMIT, through).await.unwrap();
}

/// A service with two instances, which it changes again and again.
struct Busy {
    apart: Apart,
    effects: Effects,
    trove: Trove,
    accounts: InstanceHandle,
    server: InstanceHandle,
    rounds: AtomicUsize,
}

impl Busy {
    async fn start(way: &Way, guests: Guests) -> Self {
        let apart = Apart::new();
        let (effects, trove) = (Effects::on(&apart.world), start(way, &apart, guests).await);
        let new = async |name| trove.create(NewInstance::new(name, "memory")).await.unwrap().active().await.unwrap();
        let (accounts, server) = tokio::join!(new("accounts"), new("server"));
        Self { apart, effects, trove, accounts, server, rounds: AtomicUsize::new(0) }
    }

    /// Works from before this is true until after it, at least once.
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

    /// Stops and starts a server, from before this is true until after it.
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

    fn did_all_once(&self) {
        let rounds = self.rounds.load(Ordering::Relaxed);
        assert_eq!((self.effects.count("stop"), self.effects.count("start")), (rounds, rounds));
    }

    async fn end(&self, way: &Way) {
        assert_eq!(self.effects.repeated(), [""; 0]);
        for instance in [&self.accounts, &self.server] {
            assert!(self.apart.world.serves(instance.id, &[], &[]));
            assert_eq!(way.broker.mentions(&instance.id.to_string()), ["users", "queues", "exchanges"]);
            instance.delete().await.unwrap().wait().await.unwrap();
            assert_eq!(way.broker.mentions(&instance.id.to_string()), [""; 0]);
        }
        self.trove.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_network_is_an_error_and_what_was_sent_happens_once_when_it_is_heard() {
    let operations = async { tokio::join!(operations_in_silence(Guests::Here), operations_in_silence(Guests::Apart)) };
    timeout(LIMIT, async { tokio::join!(calls_in_silence(), operations) }).await.unwrap();
}

/// Calls and frames during a silence in which all that have a short limit come to it.
async fn calls_in_silence() {
    let (way, instance) = (Way::to(RabbitMq::shared().await).await, InstanceId::new_v4());
    let (bus, key) = (way.bus(), InstanceKey::generate(1).unwrap());
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
    let line = RpcClient::open(control.clone(), instance, key, Arc::new(Deaf), refusals).await.unwrap();
    assert_eq!(*line.call(b"before", OnGuestRestart::Fail, LIMIT).await.unwrap(), b"before");

    way.frames.set(Weather::Silent);
    way.management.set(Weather::Silent);
    let silence = async {
        let short = Duration::from_secs(2);
        let (stranger, nobody) = (way.bus().control(), InstanceId::new_v4());
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
        way.frames.set(Weather::Fair);
        way.management.set(Weather::Fair);
        failed.map(|error| (error.kind(), error.is_transient()))
    };
    let patient = line.call(b"patient", OnGuestRestart::Fail, LIMIT);
    let (failed, answer) = timeout(LIMIT, async { tokio::join!(silence, patient) }).await.unwrap();
    let (late, away) = ((Kind::Timeout, true), (Kind::Unavailable, true));
    assert_eq!(failed, [late, late, late, away, away, away]);
    assert_eq!(*answer.unwrap(), b"patient");
    assert_eq!(*line.call(b"after", OnGuestRestart::Fail, LIMIT).await.unwrap(), b"after");
    assert!(echo.heard().values().all(|times| *times == 1), "{:?}", echo.heard());

    stop.cancel();
    service.await.unwrap().unwrap();
    bus.revoke(&login.user).await.unwrap();
    for address in &mailboxes {
        control.remove(address).await.unwrap();
    }
}

/// Answers what it is asked, and counts how often.
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

struct Deaf;

#[async_trait]
impl NotificationHandler for Deaf {
    async fn handle(&self, _text: &[u8]) {}
}

/// Waits until a try of an operation failed, and returns why.
async fn failure(events: &mut EventStream, of: OperationId) -> OperationError {
    loop {
        match events.next().await.unwrap().kind {
            EventKind::Failed { operation, error, .. } if operation == of => return error,
            _ => {}
        }
    }
}

/// An operation during a silence that is so long that somebody gives up a connection and makes another.
async fn operations_in_silence(guests: Guests) {
    let (way, apart) = (Way::to(RabbitMq::shared().await).await, Apart::new());
    let (effects, trove) = (Effects::on(&apart.world), start(&way, &apart, guests).await);
    let instance = trove.create(NewInstance::new("orders", "memory")).await.unwrap().active().await.unwrap();
    let mut events = trove.events();
    way.frames.set(Weather::Silent);
    let (another, stop) = (way.frames.connected(), instance.stop().await.unwrap());
    let failed = failure(&mut events, stop.id()).await;
    assert_eq!(failed.kind, Kind::Timeout, "{failed:?}");
    another.await;
    way.frames.set(Weather::Fair);
    stop.wait().await.unwrap();
    assert!(apart.world.is_stopped(instance.id));
    instance.start().await.unwrap().active().await.unwrap();
    assert_eq!((effects.count("stop"), effects.count("start")), (1, 1), "{guests:?}");
    instance.delete().await.unwrap().wait().await.unwrap();
    trove.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_mailbox_is_an_error_until_somebody_empties_it() {
    let (way, apart) = (Way::to(RabbitMq::shared().await).await, Apart::new());
    let (effects, trove) = (Effects::on(&apart.world), start(&way, &apart, Guests::Apart).await);
    let instance = trove.create(NewInstance::new("orders", "memory")).await.unwrap().active().await.unwrap();
    let (id, mut events, control) = (instance.id, trove.events(), way.bus().control());
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
        apart.begin_again(id);
        stop.wait().await.unwrap();
        instance.start().await.unwrap().active().await.unwrap();
        assert_eq!((effects.count("stop"), effects.count("start")), (1, 1));
    };
    timeout(LIMIT, guest_away).await.unwrap();

    let control_away = async {
        trove.shut_down().await;
        fill(Address::control(id)).await;
        let trove = start(&way, &apart, Guests::Apart).await;
        let instance = trove.instance(id).await.unwrap();
        assert_eq!(users(&instance).await, 0);
        instance.delete().await.unwrap().wait().await.unwrap();
        trove.shut_down().await;
    };
    timeout(LIMIT, control_away).await.unwrap();
}
