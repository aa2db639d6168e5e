//! Both ends over a wire that belongs to somebody else.

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
    Address, Answerer, InProcess, InstanceKey, Keys, Line, Listener, Mailbox, Refusal, Refusals, Repeat, Sent, Service,
    Teller, Transport,
};
use crate::{
    error::{Effect, Kind, Result},
    id::InstanceId,
};

const LIMIT: Duration = Duration::from_secs(3600);

type Frames = Vec<(Address, Vec<u8>)>;

/// A transport on which everything is kept, and on which so many frames of a hundred are lost or come twice, by chance.
#[derive(Clone, Default)]
struct Wire {
    inner: InProcess,
    seen: Arc<Mutex<Frames>>,
    lose: u64,
    repeat: u64,
    chance: Arc<AtomicU64>,
}

#[async_trait]
impl Transport for Wire {
    async fn create(&self, address: &Address) -> Result<()> {
        self.inner.create(address).await
    }

    async fn remove(&self, address: &Address) -> Result<()> {
        self.inner.remove(address).await
    }

    async fn open(&self, address: &Address) -> Result<Box<dyn Mailbox>> {
        self.inner.open(address).await
    }

    fn send(&self, address: &Address, frame: Vec<u8>) -> Sent {
        self.seen.lock().unwrap().push((*address, frame.clone()));
        if self.chance() < self.lose {
            return Box::pin(ready(Ok(())));
        }
        if self.chance() < self.repeat {
            drop(self.inner.send(address, frame.clone()));
        }
        self.inner.send(address, frame)
    }
}

impl Wire {
    /// A number below a hundred, the same ones in each run.
    fn chance(&self) -> u64 {
        let next =
            |seed: u64| Some(seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        self.chance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).map_or(0, |seed| (seed >> 33) % 100)
    }
}

/// Answers with what it was asked, and counts; holds back what begins with `wait` until it is let go.
#[derive(Default)]
struct Echo {
    answered: AtomicUsize,
    begun: Notify,
    go: Notify,
}

#[async_trait]
impl Answerer for Echo {
    async fn answer(&self, text: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.begun.notify_one();
        if text.starts_with(b"wait") {
            self.go.notified().await;
        }
        text
    }
}

struct Told(mpsc::Sender<Vec<u8>>);

#[async_trait]
impl Listener for Told {
    async fn told(&self, text: &[u8]) {
        self.0.send(text.to_vec()).await.unwrap();
    }
}

struct Place {
    wire: Wire,
    instance: InstanceId,
    key: InstanceKey,
    keys: Keys,
    refusals: Refusals,
    told: mpsc::Receiver<Vec<u8>>,
    listener: Arc<Told>,
    echo: Arc<Echo>,
}

impl Place {
    async fn new(wire: Wire) -> Self {
        let instance = InstanceId::new_v4();
        for address in [Address::guest(instance), Address::control(instance)] {
            wire.create(&address).await.unwrap();
        }
        let (sender, told) = mpsc::channel(64);
        let key = InstanceKey::generate(1).unwrap();
        let listener = Arc::new(Told(sender));
        Self {
            wire,
            instance,
            keys: Keys::new(key.clone()),
            key,
            refusals: Refusals::new(),
            told,
            listener,
            echo: Arc::default(),
        }
    }

    async fn line(&self) -> Line {
        let (transport, listener) = (Arc::new(self.wire.clone()), self.listener.clone());
        let line = Line::open(transport, self.instance, self.key.clone(), listener, self.refusals.clone());
        line.await.unwrap()
    }

    fn guest(&self) -> Guest {
        let transport = Arc::new(self.wire.clone());
        let (instance, key) = (self.instance, self.keys.clone());
        let teller = Teller::new();
        let (echo, refusals) = (self.echo.clone(), self.refusals.clone());
        let service = Service::new(transport, instance, key, echo, teller.clone(), refusals).unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(service.run(stop.clone()));
        Guest { teller, stop, task }
    }
}

struct Guest {
    teller: Teller,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<()>>,
}

impl Guest {
    /// Ends at once, as a process that is killed.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

#[tokio::test(start_paused = true)]
async fn calls_are_answered_once_however_much_is_lost_or_comes_twice() {
    for (lose, repeat) in [(0, 0), (20, 0), (50, 0), (0, 50), (0, 100), (30, 50), (10, 10)] {
        let mut place = Place::new(Wire { lose, repeat, ..Wire::default() }).await;
        let (line, guest) = (place.line().await, place.guest());
        let calls = (0..20u32).map(|number| {
            let line = &line;
            async move {
                let text = format!("call {number}");
                let answer = line.call(text.as_bytes(), Repeat::GiveUp, LIMIT).await.unwrap();
                assert_eq!(*answer, text.as_bytes());
            }
        });
        join_all(calls).await;
        assert_eq!(place.echo.answered.load(Ordering::Relaxed), 20, "losing {lose} %, repeating {repeat} %");
        for number in 0..10u8 {
            guest.teller.tell(vec![number].into());
        }
        if lose == 0 {
            for number in 0..10u8 {
                assert_eq!(place.told.recv().await.unwrap(), [number]);
            }
        }
        assert!(repeat == 0 || place.refusals.count(Refusal::Replayed) > 0);
        guest.stop.cancel();
        guest.task.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn another_key_is_taken_while_calls_are_under_way_and_each_is_answered_once() {
    for (lose, repeat) in [(0, 0), (20, 0), (0, 50), (30, 50)] {
        let mut place = Place::new(Wire { lose, repeat, ..Wire::default() }).await;
        let (line, guest) = (place.line().await, place.guest());
        let old = Keys::new(place.key.clone());
        let calls = (0..20u32).map(|number| {
            let line = &line;
            async move {
                // Half of them are begun before and end after.
                let text = if number % 2 == 0 { format!("wait {number}") } else { number.to_string() };
                let answer = line.call(text.as_bytes(), Repeat::GiveUp, LIMIT).await.unwrap();
                assert_eq!(*answer, text.as_bytes());
            }
        });
        let renew = async {
            while place.echo.answered.load(Ordering::Relaxed) < 20 {
                place.echo.begun.notified().await;
            }
            let new = InstanceKey::generate(2).unwrap();
            place.keys.learn(new.clone());
            let renewed = line.renew(new, LIMIT).await;
            for _ in 0..10 {
                place.echo.go.notify_one();
                tokio::task::yield_now().await;
            }
            renewed.unwrap();
            assert_eq!(place.keys.used_above(1).await, 2);
        };
        tokio::join!(join_all(calls), renew);
        assert_eq!(*line.call(b"new", Repeat::GiveUp, LIMIT).await.unwrap(), b"new");
        assert_eq!(place.echo.answered.load(Ordering::Relaxed), 21, "losing {lose} %, repeating {repeat} %");

        // Whoever has only the old one is nobody.
        guest.kill().await;
        let new = std::mem::replace(&mut place.keys, old);
        let thief = place.guest();
        let unheard = line.call(b"anybody", Repeat::GiveUp, Duration::from_secs(60)).await.unwrap_err();
        assert_eq!(unheard.kind(), Kind::Timeout);
        assert!(place.refusals.count(Refusal::UnknownKey) > 0);
        thief.kill().await;
        place.keys = new;
        let guest = place.guest();
        assert_eq!(*line.call(b"there", Repeat::Again, LIMIT).await.unwrap(), b"there");
        guest.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_outlives_the_guest_or_says_that_it_may_have_had_its_effect() {
    let place = Place::new(Wire::default()).await;
    let line = place.line().await;
    let again = line.call(b"wait: again", Repeat::Again, LIMIT);
    let once = line.call(b"wait: once", Repeat::GiveUp, LIMIT);
    let kill = async {
        let guest = place.guest();
        place.echo.begun.notified().await;
        while place.echo.answered.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
        guest.kill().await;
        let guest = place.guest();
        place.echo.go.notify_one();
        guest
    };
    let (again, once, guest) = tokio::join!(again, once, kill);
    assert_eq!(*again.unwrap(), b"wait: again");
    let error = once.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Unavailable, Effect::Unknown));
    // A control plane that begins anew goes on with the guest that is there.
    drop(line);
    tokio::task::yield_now().await;
    let line = place.line().await;
    assert_eq!(*line.call(b"hello", Repeat::GiveUp, LIMIT).await.unwrap(), b"hello");
    guest.kill().await;
    let gone = line.call(b"anybody", Repeat::Again, LIMIT).await.unwrap_err();
    assert_eq!(gone.kind(), Kind::Timeout);
}

#[tokio::test(start_paused = true)]
async fn all_that_was_ever_sent_may_come_again_and_has_no_effect() {
    let mut place = Place::new(Wire::default()).await;
    let (mut line, mut guest) = (place.line().await, place.guest());
    for round in 0..4 {
        line.call(b"call", Repeat::Again, LIMIT).await.unwrap();
        guest.teller.told(b"tell".to_vec().into()).await;
        assert_eq!(place.told.recv().await.unwrap(), b"tell");
        if round % 2 == 1 {
            guest.kill().await;
            guest = place.guest();
        } else {
            drop(line);
            tokio::task::yield_now().await;
            line = place.line().await;
        }
        let old = place.wire.seen.lock().unwrap().clone();
        for (address, frame) in &old {
            place.wire.inner.send(address, frame.clone()).await.unwrap();
        }
    }
    line.call(b"call", Repeat::Again, LIMIT).await.unwrap();
    guest.teller.tell(b"end".to_vec().into());
    assert_eq!(place.told.recv().await.unwrap(), b"end", "nothing old was heard before");
    assert_eq!(place.echo.answered.load(Ordering::Relaxed), 5);
}

#[tokio::test(start_paused = true)]
async fn a_second_service_of_the_same_guest_is_refused() {
    let place = Place::new(Wire::default()).await;
    let (line, guest) = (place.line().await, place.guest());
    line.call(b"first", Repeat::Again, LIMIT).await.unwrap();
    let second = place.guest();
    assert_eq!(second.task.await.unwrap().unwrap_err().kind(), Kind::Conflict);
    line.call(b"still first", Repeat::Again, LIMIT).await.unwrap();
    drop(guest);
}

#[tokio::test(start_paused = true)]
async fn junk_is_dropped_and_counted_by_its_reason() {
    let place = Place::new(Wire::default()).await;
    let (line, _guest) = (place.line().await, place.guest());
    line.call(b"a", Repeat::Again, LIMIT).await.unwrap();
    let seen = place.wire.seen.lock().unwrap().clone();
    let (to, good) = seen.iter().rfind(|(address, _)| *address == Address::guest(place.instance)).unwrap();
    let changed = |at: usize| {
        let mut frame = good.clone();
        frame[at] ^= 1;
        frame
    };
    for (frame, reason) in [
        (b"{\"method\": \"stop\"}".to_vec(), Refusal::Malformed),
        (vec![0; 100], Refusal::Malformed),
        (changed(4), Refusal::UnknownKey),
        (changed(8), Refusal::Misdirected),
        (changed(25), Refusal::NoSession),
        (changed(60), Refusal::Forged),
        (changed(good.len() - 1), Refusal::Forged),
        (good.clone(), Refusal::Replayed),
    ] {
        let before = place.refusals.count(reason);
        place.wire.inner.send(to, frame).await.unwrap();
        line.call(b"a", Repeat::Again, LIMIT).await.unwrap();
        assert_eq!(place.refusals.count(reason), before + 1, "{reason:?}");
    }
}

/// Panics at what begins with `panic`.
struct Fragile;

#[async_trait]
impl Answerer for Fragile {
    async fn answer(&self, text: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
        assert!(!text.starts_with(b"panic"), "as it was asked to");
        text
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_panic_do_not_make_a_guest_deaf() {
    let place = Place::new(Wire::default()).await;
    let (transport, instance) = (Arc::new(place.wire.clone()), place.instance);
    let (key, refusals) = (place.keys.clone(), place.refusals.clone());
    let service = Service::new(transport, instance, key, Arc::new(Fragile), Teller::new(), refusals).unwrap();
    let guest = tokio::spawn(service.run(CancellationToken::new()));
    let line = place.line().await;
    for _ in 0..3 {
        let calls = (0..200).map(|_| line.call(b"panic", Repeat::GiveUp, Duration::from_secs(1)));
        for answer in join_all(calls).await {
            assert_eq!(answer.unwrap_err().kind(), Kind::Timeout);
        }
    }
    assert_eq!(*line.call(b"still there", Repeat::GiveUp, LIMIT).await.unwrap(), b"still there");
    guest.abort();
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_whose_first_offer_was_lost_is_heard_of_all_the_same() {
    let mut place = Place::new(Wire::default()).await;
    let (line, guest) = (place.line().await, place.guest());
    line.call(b"a", Repeat::Again, LIMIT).await.unwrap();
    drop(line);
    tokio::task::yield_now().await;
    let lost = Wire { lose: 100, ..place.wire.clone() };
    let whole = std::mem::replace(&mut place.wire, lost);
    let frames = || whole.seen.lock().unwrap().len();
    let before = frames();
    let line = place.line().await;
    while frames() == before {
        tokio::task::yield_now().await;
    }
    drop(line);
    tokio::task::yield_now().await;
    place.wire = whole;
    let _line = place.line().await;
    // What it tells is told to a session that is over, at first.
    let heard = async {
        loop {
            guest.teller.tell(b"heard".to_vec().into());
            if let Ok(told) = tokio::time::timeout(Duration::from_secs(1), place.told.recv()).await {
                return told.unwrap();
            }
        }
    };
    assert_eq!(tokio::time::timeout(LIMIT, heard).await.expect("never heard"), b"heard");
}

#[tokio::test(start_paused = true)]
async fn calls_end_when_a_mailbox_of_the_line_is_gone() {
    for side in [Address::control, Address::guest] {
        let place = Place::new(Wire::default()).await;
        let (line, guest) = (place.line().await, place.guest());
        let removed = async {
            place.echo.begun.notified().await;
            place.wire.remove(&side(place.instance)).await.unwrap();
        };
        let (under_way, ()) = tokio::join!(line.call(b"wait", Repeat::Again, LIMIT), removed);
        let under_way = under_way.unwrap_err();
        assert_eq!((under_way.kind(), under_way.effect()), (Kind::Unavailable, Effect::Unknown));
        let later = line.call(b"later", Repeat::Again, LIMIT).await.unwrap_err();
        assert_eq!((later.kind(), later.effect()), (Kind::Unavailable, Effect::None));
        guest.kill().await;
    }
}
