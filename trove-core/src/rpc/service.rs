//! A guest's end: each call is answered once, however often it is asked.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    Address, InstanceKey, Mailbox, Refusals, Transport,
    session::{FromControl, GuestEnd},
};
use crate::{
    error::{Error, Kind, Result},
    id::InstanceId,
};

/// How many calls are remembered, those that run and those that were answered last.
const CALLS: usize = 256;
/// How many things to tell may wait for the control plane.
const TELLINGS: usize = 64;
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

/// What tells the control plane things without being asked.
#[derive(Clone, Debug)]
pub struct Teller(mpsc::Sender<Zeroizing<Vec<u8>>>);

/// A guest's service to the control plane.
pub struct Service {
    shared: Arc<Shared>,
    tellings: mpsc::Receiver<Zeroizing<Vec<u8>>>,
}

struct Shared {
    transport: Arc<dyn Transport>,
    control: Address,
    own: Address,
    end: Mutex<GuestEnd>,
    /// Held from the sealing of a frame until it is sent: frames arrive in the order in which they were sealed.
    sending: tokio::sync::Mutex<()>,
    calls: Mutex<VecDeque<Known>>,
    /// True once a session stands.
    session: watch::Sender<bool>,
    answerer: Arc<dyn Answerer>,
    refusals: Refusals,
    tasks: TaskTracker,
    life: CancellationToken,
}

/// A call that was heard, and its answer once there is one.
struct Known {
    id: Uuid,
    answer: Option<Zeroizing<Vec<u8>>>,
}

impl Teller {
    /// Tells this, after all that was told before, once the control plane is there. Waits while too much waits already.
    /// What was told may be lost with the other side; the state of things is told again and again.
    pub async fn tell(&self, text: Vec<u8>) -> Result<()> {
        let ended = |_| Error::cancelled("the guest's service has ended");
        self.0.send(Zeroizing::new(text)).await.map_err(ended)
    }
}

impl Service {
    /// The service of a guest with this key, and what tells for it.
    pub fn new(
        transport: Arc<dyn Transport>,
        instance: InstanceId,
        key: InstanceKey,
        answerer: Arc<dyn Answerer>,
        refusals: Refusals,
    ) -> Result<(Self, Teller)> {
        let (teller, tellings) = mpsc::channel(TELLINGS);
        let shared = Arc::new(Shared {
            transport,
            control: Address::control(instance),
            own: Address::guest(instance),
            end: Mutex::new(GuestEnd::new(instance, key)?),
            sending: tokio::sync::Mutex::default(),
            calls: Mutex::default(),
            session: watch::Sender::new(false),
            answerer,
            refusals,
            tasks: TaskTracker::new(),
            life: CancellationToken::new(),
        });
        Ok((Self { shared, tellings }, Teller(teller)))
    }

    /// Serves until told to stop; calls that run are finished.
    ///
    /// # Errors
    ///
    /// [`Conflict`](Kind::Conflict) where another one serves for this guest, [`NotFound`](Kind::NotFound) where its
    /// mailbox is gone.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        let Self { shared, tellings } = self;
        let inbox = shared.transport.open(&shared.own).await?;
        // Where this is dropped, the calls are too.
        let _life = shared.life.clone().drop_guard();
        let ended = tokio::select! {
            ended = shared.receive(inbox) => ended,
            () = shared.wake() => Ok(()),
            () = shared.tell(tellings) => Ok(()),
            () = stop.cancelled() => Ok(()),
        };
        shared.tasks.close();
        shared.tasks.wait().await;
        ended
    }
}

impl Shared {
    async fn receive(self: &Arc<Self>, mut inbox: Box<dyn Mailbox>) -> Result<()> {
        let mut pause = PAUSES.0;
        loop {
            match inbox.receive().await {
                Ok(delivery) => {
                    pause = PAUSES.0;
                    let heard = self.end().hear(delivery.frame());
                    match heard {
                        Ok(FromControl::Offer(welcome)) => {
                            let _turn = self.sending.lock().await;
                            self.sent(self.transport.send(&self.control, &welcome).await);
                        }
                        Ok(FromControl::Confirmed) => drop(self.session.send_replace(true)),
                        Ok(FromControl::Call(id, text)) => {
                            self.session.send_replace(true);
                            self.called(id, text).await;
                        }
                        Err(reason) => self.refusals.refuse(&self.own, reason),
                    }
                    self.sent(delivery.done().await);
                }
                Err(error) if error.kind() == Kind::NotFound => return Err(error),
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
                        let answer = shared.answerer.answer(text).await;
                        shared.note(id, &answer);
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
            self.sent(self.send(|end| end.wake()).await);
            // Either way it is looked again.
            let _ = tokio::time::timeout(WAKE_EVERY, session.changed()).await;
        }
        std::future::pending().await
    }

    /// Tells one thing after another.
    async fn tell(&self, mut tellings: mpsc::Receiver<Zeroizing<Vec<u8>>>) {
        while let Some(text) = tellings.recv().await {
            // It ends only with the service.
            let _ = self.session.subscribe().wait_for(|stands| *stands).await;
            let mut pause = PAUSES.0;
            while let Err(error) = self.send(|end| end.cast(&text)).await {
                if !error.is_transient() {
                    self.sent(Err(error));
                    break;
                }
                sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
        std::future::pending().await
    }

    async fn send(&self, frame: impl FnOnce(&mut GuestEnd) -> Result<Vec<u8>>) -> Result<()> {
        let _turn = self.sending.lock().await;
        let frame = frame(&mut self.end())?;
        self.transport.send(&self.control, &frame).await
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
