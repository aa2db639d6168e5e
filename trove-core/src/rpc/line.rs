//! The control plane's end: calls that are repeated until they are answered, or given up.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    Address, Delivery, InstanceKey, Mailbox, Refusal, Refusals, Transport,
    refusals::Refuser,
    session::{ControlEnd, FromGuest},
};
use crate::{
    error::{Effect, Error, Kind, Result},
    id::InstanceId,
};

/// How many calls may wait for an answer.
const CALLS: usize = 256;
/// How long a call goes unanswered before a new session is offered, and it is sent again.
const UNANSWERED: Duration = Duration::from_secs(5);
/// How long an offer may go unanswered before it is made again.
const OFFER_EVERY: Duration = Duration::from_secs(1);
/// How long to wait before a transport that failed is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// The control plane's line to one guest. Dropped, it is closed; the guest goes on.
pub struct Line {
    shared: Arc<Shared>,
    _open: DropGuard,
}

/// Takes what a guest tells without being asked.
#[async_trait]
pub trait Listener: Send + Sync + 'static {
    /// Takes it. What the guest says next is heard after that.
    async fn told(&self, text: &[u8]);

    /// Hears that a mailbox of the line is gone. Both have to be made, and the line opened, anew.
    async fn lost(&self) {}
}

/// What becomes of a call whose guest was restarted before it answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It is made again: twice does what once does.
    Again,
    /// It is given up as [`Unavailable`](Kind::Unavailable), with an effect that is not known.
    GiveUp,
}

struct Shared {
    transport: Arc<dyn Transport>,
    guest: Address,
    own: Address,
    end: Mutex<ControlEnd>,
    calls: Mutex<HashMap<Uuid, oneshot::Sender<Zeroizing<Vec<u8>>>>>,
    /// Which session stands, and which life of the guest it is with.
    session: watch::Sender<Option<Stand>>,
    sessions: AtomicU64,
    offered: Mutex<Option<Instant>>,
    /// Cancelled once a mailbox is gone: another line is opened, and nobody hears what comes for this one.
    over: CancellationToken,
    listener: Arc<dyn Listener>,
    refuser: Refuser,
}

#[derive(Clone, PartialEq, Eq)]
struct Stand {
    number: u64,
    life: Uuid,
}

impl Line {
    /// Opens the line to a guest whose mailboxes exist. It need not be there yet.
    pub async fn open(
        transport: Arc<dyn Transport>,
        instance: InstanceId,
        key: InstanceKey,
        listener: Arc<dyn Listener>,
        refusals: Refusals,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            transport,
            guest: Address::guest(instance),
            own: Address::control(instance),
            end: Mutex::new(ControlEnd::new(instance, key)),
            calls: Mutex::default(),
            session: watch::Sender::new(None),
            sessions: AtomicU64::default(),
            offered: Mutex::default(),
            over: CancellationToken::new(),
            listener,
            refuser: Refuser::new(Address::control(instance), refusals),
        });
        let inbox = shared.transport.open(&shared.own).await?;
        let open = CancellationToken::new();
        tokio::spawn({
            let (shared, open) = (shared.clone(), open.clone());
            async move { open.run_until_cancelled(shared.receive(inbox)).await }
        });
        Ok(Self { shared, _open: open.drop_guard() })
    }

    /// Asks the guest, and waits for its answer for so long. A call that is dropped may have its effect all the same.
    ///
    /// # Errors
    ///
    /// [`Timeout`](Kind::Timeout) where nobody answered in time, [`Busy`](Kind::Busy) where too many calls wait already,
    /// [`Invalid`](Kind::Invalid) for a text of more than [`MAX_TEXT_BYTES`](super::MAX_TEXT_BYTES),
    /// [`Unavailable`](Kind::Unavailable) where a mailbox of the line is gone.
    pub async fn call(&self, text: &[u8], repeat: Repeat, limit: Duration) -> Result<Zeroizing<Vec<u8>>> {
        let (answer, mut answered) = oneshot::channel();
        let call = Waiting { shared: &self.shared, id: Uuid::new_v4() };
        {
            let mut calls = self.shared.calls();
            if calls.len() >= CALLS {
                return Err(Error::busy("too many calls to the guest wait for an answer"));
            }
            calls.insert(call.id, answer);
        }
        let work = async {
            let (mut asked, mut pause): (Option<Stand>, _) = (None, PAUSES.0);
            loop {
                let stand = tokio::select! {
                    biased;
                    answer = &mut answered => return answer.map_err(|_| Error::internal("the line is closed")),
                    () = self.shared.over.cancelled() => return Err(gone(asked.is_some())),
                    stand = self.shared.stand() => stand,
                };
                if asked.as_ref().is_some_and(|asked| asked.life != stand.life) && repeat == Repeat::GiveUp {
                    let message = "the guest was restarted before it answered";
                    return Err(Error::unavailable(message).permanent().having(Effect::Unknown));
                }
                let sent = self.shared.send(|end| end.call(call.id, text)).await;
                let unanswered = match sent {
                    Ok(()) => UNANSWERED,
                    Err(error) if error.is_transient() => {
                        let unsent = pause;
                        pause = (pause * 2).min(PAUSES.1);
                        unsent
                    }
                    Err(error) if error.kind() == Kind::NotFound => {
                        self.shared.lost().await;
                        return Err(gone(asked.is_some()).because(error));
                    }
                    Err(error) => return Err(error),
                };
                let number = stand.number;
                asked = Some(stand);
                let mut session = self.shared.session.subscribe();
                let other = |now: &Option<Stand>| now.as_ref().is_none_or(|now| now.number != number);
                let another = async { session.wait_for(other).await.map(drop) };
                tokio::select! {
                    answer = &mut answered => return answer.map_err(|_| Error::internal("the line is closed")),
                    () = self.shared.over.cancelled() => {}
                    _ = another => {}
                    () = sleep(unanswered) => self.shared.offer().await,
                }
            }
        };
        let late = |_| Err(Error::timeout("the guest did not answer in time"));
        timeout(limit, work).await.unwrap_or_else(late)
    }

    /// Goes on with another key, of which the guest was told. What is under way goes on too. After that nothing that is
    /// sealed with an earlier one is heard.
    ///
    /// # Errors
    ///
    /// [`Timeout`](Kind::Timeout) where the guest does not use it within this time; both are used then, until it does.
    pub async fn renew(&self, key: InstanceKey, limit: Duration) -> Result<()> {
        let number = key.id();
        self.shared.end().learn(key);
        // What was offered before was another key's.
        *self.shared.offered() = None;
        let used = async {
            let mut session = self.shared.session.subscribe();
            while self.shared.end().key_in_use() != Some(number) {
                self.shared.offer().await;
                // Either way it is looked again.
                let _ = timeout(OFFER_EVERY, session.changed()).await;
            }
        };
        timeout(limit, used).await.map_err(|_| Error::timeout("the guest does not use its new key yet"))?;
        self.shared.end().forget_before(number);
        Ok(())
    }
}

/// A call that waits; it stops to when it is dropped.
struct Waiting<'a> {
    shared: &'a Shared,
    id: Uuid,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.calls().remove(&self.id);
    }
}

impl Shared {
    /// The session that stands, once one does.
    async fn stand(&self) -> Stand {
        let mut session = self.session.subscribe();
        loop {
            if let Some(stand) = session.borrow_and_update().clone() {
                return stand;
            }
            self.offer().await;
            // Either way it is looked again.
            let _ = timeout(OFFER_EVERY, session.changed()).await;
        }
    }

    /// Offers a session, but not more often than an answer may take.
    async fn offer(&self) {
        {
            let mut offered = self.offered();
            if offered.is_some_and(|last| last.elapsed() < OFFER_EVERY) {
                return;
            }
            *offered = Some(Instant::now());
        }
        if let Err(error) = self.send(ControlEnd::offer).await {
            tracing::debug!(guest = %self.guest, error = error.report(), "no session could be offered");
        }
    }

    /// Sends the next frame.
    async fn send(&self, frame: impl FnOnce(&mut ControlEnd) -> Result<Vec<u8>>) -> Result<()> {
        let sent = {
            // Frames are handed over in the order in which they are sealed.
            let mut end = self.end();
            let frame = frame(&mut end)?;
            self.transport.send(&self.guest, frame)
        };
        sent.await
    }

    /// Hears the guest, until nobody wants to or its mailbox is gone.
    async fn receive(&self, mut inbox: Box<dyn Mailbox>) {
        self.offer().await;
        let mut pause = PAUSES.0;
        loop {
            match inbox.receive().await {
                Ok(delivery) => {
                    pause = PAUSES.0;
                    // A guest that floods its mailbox is not to keep others from their turn.
                    tokio::task::coop::consume_budget().await;
                    self.hear(delivery).await;
                }
                Err(error) if error.kind() == Kind::NotFound => return self.lost().await,
                Err(error) => {
                    tracing::debug!(at = %self.own, error = error.report(), "nothing can be received");
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }

    async fn lost(&self) {
        self.over.cancel();
        self.listener.lost().await;
    }

    async fn hear(&self, delivery: Delivery) {
        let heard = self.end().hear(delivery.frame());
        match heard {
            Ok(FromGuest::Awake(life)) => {
                // A session with a life that is over is none. One with this life may only not be confirmed yet.
                self.session.send_if_modified(|session| {
                    let over = session.as_ref().is_some_and(|session| session.life != life);
                    if over {
                        *session = None;
                    }
                    over
                });
                self.offer().await;
            }
            Ok(FromGuest::Welcome(life)) => {
                if let Err(error) = self.send(ControlEnd::confirm).await {
                    tracing::debug!(guest = %self.guest, error = error.report(), "a session could not be confirmed");
                }
                let number = self.sessions.fetch_add(1, Ordering::Relaxed);
                self.session.send_replace(Some(Stand { number, life }));
            }
            Ok(FromGuest::Reply(id, text)) => {
                let waiting = self.calls().remove(&id);
                match waiting {
                    // Whoever gave up in this moment does not mind.
                    Some(answer) => drop(answer.send(text)),
                    None => self.refuser.refuse(Refusal::Unexpected),
                }
            }
            Ok(FromGuest::Cast(text)) => self.listener.told(&text).await,
            Err(reason) => {
                self.refuser.refuse(reason);
                if matches!(reason, Refusal::NoSession | Refusal::Replayed) {
                    // The guest may not have heard yet that its session is over, or somebody with its key may have had the
                    // last word in it.
                    self.offer().await;
                }
            }
        }
        if let Err(error) = delivery.done().await {
            // It comes again, and is refused then.
            tracing::debug!(at = %self.own, error = error.report(), "a frame may come again");
        }
    }

    fn end(&self) -> MutexGuard<'_, ControlEnd> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn offered(&self) -> MutexGuard<'_, Option<Instant>> {
        self.offered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<Uuid, oneshot::Sender<Zeroizing<Vec<u8>>>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gone(asked: bool) -> Error {
    let effect = if asked { Effect::Unknown } else { Effect::None };
    Error::unavailable("the guest's mailbox is gone").having(effect)
}
