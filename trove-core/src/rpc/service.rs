//! A guest's end: each call is answered once, however often it is asked.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{Notify, oneshot, watch},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    Address, Keys, Mailbox, Refusals, Sent, Transport,
    refusals::Refuser,
    session::{FromControl, GuestEnd},
};
use crate::{
    error::{Kind, Result},
    id::InstanceId,
};

/// How many calls are remembered, those that run and those that were answered last.
const CALLS: usize = 256;
/// How many things to tell may wait for the control plane; of more the oldest are forgotten.
const TELLINGS: usize = 64;
/// How many of them are on their way at a time.
const TELLINGS_GOING: usize = 64;
/// How often a guest without a session says that it is there.
const WAKE_EVERY: Duration = Duration::from_secs(2);
/// How long to wait before a transport that failed is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Answers the control plane's calls.
#[async_trait]
pub trait Answerer: Send + Sync + 'static {
    /// Answers one call. It is made once, and goes on whatever becomes of the caller.
    async fn answer(&self, text: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>>;
}

/// What tells the control plane things without being asked. Clones tell into the same queue.
#[derive(Clone, Default)]
pub struct Teller(Arc<Tellings>);

#[derive(Default)]
struct Tellings {
    waiting: Mutex<VecDeque<Telling>>,
    more: Notify,
}

struct Telling {
    text: Zeroizing<Vec<u8>>,
    sent: Option<oneshot::Sender<()>>,
}

/// A guest's service to the control plane.
pub struct Service {
    shared: Arc<Shared>,
    teller: Teller,
}

struct Shared {
    transport: Arc<dyn Transport>,
    control: Address,
    own: Address,
    end: Mutex<GuestEnd>,
    calls: Mutex<VecDeque<Known>>,
    /// True once a session stands.
    session: watch::Sender<bool>,
    answerer: Arc<dyn Answerer>,
    refuser: Refuser,
    tasks: TaskTracker,
    life: CancellationToken,
}

/// A call that was heard, and its answer once there is one.
struct Known {
    id: Uuid,
    answer: Option<Zeroizing<Vec<u8>>>,
}

/// A call that is being answered; without an answer it is forgotten when this is dropped.
struct Open<'a> {
    shared: &'a Shared,
    id: Uuid,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.shared.calls().retain(|known| known.id != self.id || known.answer.is_some());
    }
}

impl Teller {
    /// A queue with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells this after all that was told before, as soon as the control plane is there. What was told may be lost with
    /// the other side: the state of things is told again and again.
    pub fn tell(&self, text: Zeroizing<Vec<u8>>) {
        self.push(Telling { text, sent: None });
    }

    /// The same, and waits until it is on its way, before any answer that is given from now on.
    pub async fn told(&self, text: Zeroizing<Vec<u8>>) {
        let (sent, gone) = oneshot::channel();
        self.push(Telling { text, sent: Some(sent) });
        // What was forgotten will not go either.
        let _ = gone.await;
    }

    fn push(&self, telling: Telling) {
        let mut waiting = self.waiting();
        waiting.push_back(telling);
        if waiting.len() > TELLINGS {
            waiting.pop_front();
        }
        self.0.more.notify_one();
    }

    /// The next to tell.
    async fn next(&self) -> Telling {
        loop {
            if let Some(telling) = self.waiting().pop_front() {
                return telling;
            }
            self.0.more.notified().await;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Telling>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Telling {
    fn settle(self) {
        if let Some(sent) = self.sent {
            // Whoever has given up waiting does not mind.
            let _ = sent.send(());
        }
    }
}

impl Service {
    /// The service of a guest with these keys, which answers and tells so.
    pub fn new(
        transport: Arc<dyn Transport>,
        instance: InstanceId,
        keys: Keys,
        answerer: Arc<dyn Answerer>,
        teller: Teller,
        refusals: Refusals,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            transport,
            control: Address::control(instance),
            own: Address::guest(instance),
            end: Mutex::new(GuestEnd::new(instance, keys)?),
            calls: Mutex::default(),
            session: watch::Sender::new(false),
            answerer,
            refuser: Refuser::new(Address::guest(instance), refusals),
            tasks: TaskTracker::new(),
            life: CancellationToken::new(),
        });
        Ok(Self { shared, teller })
    }

    /// Serves until told to stop, as soon as the transport can be used; calls that run are finished.
    ///
    /// # Errors
    ///
    /// [`Conflict`](Kind::Conflict) where another one serves for this guest, [`NotFound`](Kind::NotFound) where its
    /// mailbox is gone.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        let Self { shared, teller } = self;
        let Some(inbox) = stop.run_until_cancelled(shared.open()).await.transpose()? else { return Ok(()) };
        // Where this is dropped, the calls are too.
        let _life = shared.life.clone().drop_guard();
        let ended = tokio::select! {
            ended = shared.receive(inbox) => ended,
            () = shared.wake() => Ok(()),
            () = shared.tell(&teller) => Ok(()),
            () = stop.cancelled() => Ok(()),
        };
        shared.tasks.close();
        shared.tasks.wait().await;
        ended
    }
}

impl Shared {
    /// Opens its mailbox, for as long as it is only the way to it that fails.
    async fn open(&self) -> Result<Box<dyn Mailbox>> {
        let mut pause = PAUSES.0;
        loop {
            match self.transport.open(&self.own).await {
                Err(error) if error.is_transient() => {
                    tracing::warn!(guest = %self.own, error = error.report(), "the control plane is not reached");
                }
                opened => return opened,
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn receive(self: &Arc<Self>, mut inbox: Box<dyn Mailbox>) -> Result<()> {
        let mut pause = PAUSES.0;
        loop {
            match inbox.receive().await {
                Ok(delivery) => {
                    pause = PAUSES.0;
                    // A full mailbox is not to keep others from their turn.
                    tokio::task::coop::consume_budget().await;
                    let heard = self.end().hear(delivery.frame());
                    match heard {
                        Ok(FromControl::Offer(welcome)) => {
                            self.sent(self.transport.send(&self.control, welcome).await);
                        }
                        Ok(FromControl::Confirmed) => drop(self.session.send_replace(true)),
                        Ok(FromControl::Call(id, text)) => {
                            self.session.send_replace(true);
                            self.called(id, text).await;
                        }
                        Err(reason) => self.refuser.refuse(reason),
                    }
                    self.sent(delivery.done().await);
                }
                Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Conflict) => return Err(error),
                Err(error) => {
                    self.sent(Err(error));
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }

    /// Begins to answer a call, or answers it again.
    async fn called(self: &Arc<Self>, id: Uuid, text: Zeroizing<Vec<u8>>) {
        let answer = {
            let mut calls = self.calls();
            match calls.iter().find(|known| known.id == id) {
                Some(known) => known.answer.clone(),
                None => {
                    if calls.len() >= CALLS {
                        // The oldest that has its answer; where none has, the new one is not taken, and asked again.
                        let Some(old) = calls.iter().position(|known| known.answer.is_some()) else { return };
                        calls.remove(old);
                    }
                    calls.push_back(Known { id, answer: None });
                    let shared = self.clone();
                    let life = self.life.clone();
                    self.tasks.spawn(life.run_until_cancelled_owned(async move {
                        // One that panics is not known any more, so that it is not waited for in vain.
                        let open = Open { shared: &shared, id };
                        let answer = shared.answerer.answer(text).await;
                        shared.note(id, &answer);
                        drop(open);
                        shared.reply(id, &answer).await;
                    }));
                    return;
                }
            }
        };
        if let Some(answer) = answer {
            self.reply(id, &answer).await;
        }
    }

    fn note(&self, id: Uuid, answer: &Zeroizing<Vec<u8>>) {
        if let Some(known) = self.calls().iter_mut().find(|known| known.id == id) {
            known.answer = Some(answer.clone());
        }
    }

    /// An answer that is lost is asked for again.
    async fn reply(&self, id: Uuid, answer: &[u8]) {
        self.sent(self.send(|end| end.reply(id, answer)).await);
    }

    /// Says that it is there, until a session stands.
    async fn wake(&self) {
        let mut session = self.session.subscribe();
        while !*session.borrow_and_update() {
            let wakes = self.end().wake();
            match wakes {
                Ok(wakes) => {
                    for wake in wakes {
                        self.sent(self.transport.send(&self.control, wake).await);
                    }
                }
                Err(error) => self.sent(Err(error)),
            }
            // Either way it is looked again.
            let _ = tokio::time::timeout(WAKE_EVERY, session.changed()).await;
        }
        std::future::pending().await
    }

    /// Tells one thing after another, the next ones before it is known that the first has arrived.
    async fn tell(&self, teller: &Teller) {
        // It ends only with the service.
        let _ = self.session.subscribe().wait_for(|stands| *stands).await;
        let mut going: VecDeque<(Telling, Result<Sent>)> = VecDeque::new();
        loop {
            let more = going.len() < TELLINGS_GOING;
            let first = async {
                match going.front_mut() {
                    Some((_, Ok(sent))) => sent.await,
                    Some((_, Err(error))) => Err(error.clone()),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                outcome = first => match outcome {
                    Err(error) if error.is_transient() => {
                        // With those behind it, so that what was told last is heard last.
                        let again: Vec<Telling> = going.drain(..).map(|(telling, _)| telling).collect();
                        for telling in again {
                            self.tell_until_sent(telling).await;
                        }
                    }
                    outcome => {
                        self.sent(outcome);
                        going.pop_front().into_iter().for_each(|(telling, _)| telling.settle());
                    }
                },
                telling = teller.next(), if more => {
                    let sent = self.hand_over(|end| end.cast(&telling.text));
                    going.push_back((telling, sent));
                }
            }
        }
    }

    async fn tell_until_sent(&self, telling: Telling) {
        let mut pause = PAUSES.0;
        while let Err(error) = self.send(|end| end.cast(&telling.text)).await {
            if !error.is_transient() {
                self.sent(Err(error));
                break;
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
        telling.settle();
    }

    async fn send(&self, frame: impl FnOnce(&mut GuestEnd) -> Result<Vec<u8>>) -> Result<()> {
        self.hand_over(frame)?.await
    }

    fn hand_over(&self, frame: impl FnOnce(&mut GuestEnd) -> Result<Vec<u8>>) -> Result<Sent> {
        // In the order in which they are sealed.
        let mut end = self.end();
        let frame = frame(&mut end)?;
        Ok(self.transport.send(&self.control, frame))
    }

    fn sent(&self, result: Result<()>) {
        if let Err(error) = result {
            tracing::debug!(guest = %self.own, error = error.report(), "the control plane is not reached");
        }
    }

    fn end(&self) -> MutexGuard<'_, GuestEnd> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn calls(&self) -> MutexGuard<'_, VecDeque<Known>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
