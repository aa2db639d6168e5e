//! The control plane's side: calls that are resent until they are answered or time out.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    Address, Delivery, DropCounters, DropReason, InstanceKey, QueueConsumer, Transport,
    drops::DropRecorder,
    session::{ControlPeer, GuestEvent},
    transport::{next_delay, reconnect_delays},
};
use crate::{
    error::{Effect, Error, Kind, Result},
    id::InstanceId,
};

/// The maximum number of pending calls.
const CALLS: usize = 256;
/// How long a call waits for its reply before a new session is offered and the call is resent.
const RESEND_AFTER: Duration = Duration::from_secs(5);
/// The minimum interval between offers of a session.
const OFFER_INTERVAL: Duration = Duration::from_secs(1);

/// Calls one guest and receives its notifications.
///
/// Dropping the client closes its side of the connection; the guest is not affected.
pub struct RpcClient {
    state: Arc<ClientState>,
    _open: DropGuard,
}

/// Handles the notifications of a guest.
#[async_trait]
pub trait NotificationHandler: Send + Sync + 'static {
    /// Handles a notification. The client receives the next frame only when this returns.
    async fn handle(&self, payload: &[u8]);

    /// Called when a queue of this guest was deleted. The client no longer works; the caller must
    /// create both queues and connect again.
    async fn queue_deleted(&self) {}
}

/// The handling of a call whose guest restarts before it replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnGuestRestart {
    /// The call is sent to the restarted guest. For idempotent calls.
    Resend,
    /// The call fails with [`Unavailable`](Kind::Unavailable) and an unknown effect.
    Fail,
}

struct ClientState {
    transport: Arc<dyn Transport>,
    guest: Address,
    own: Address,
    peer: Mutex<ControlPeer>,
    calls: Mutex<HashMap<Uuid, oneshot::Sender<Zeroizing<Vec<u8>>>>>,
    session: watch::Sender<Option<CurrentSession>>,
    sessions: AtomicU64,
    last_offer: Mutex<Option<Instant>>,
    /// Cancelled once a queue is deleted: another client replaces this one, which receives nothing.
    closed: CancellationToken,
    handler: Arc<dyn NotificationHandler>,
    drops: DropRecorder,
}

/// The session that is established.
#[derive(Clone, PartialEq, Eq)]
struct CurrentSession {
    number: u64,
    boot_id: Uuid,
}

impl RpcClient {
    /// Connects to the queues of a guest, which must exist. The guest need not be running yet.
    pub async fn open(
        transport: Arc<dyn Transport>,
        instance: InstanceId,
        key: InstanceKey,
        handler: Arc<dyn NotificationHandler>,
        drops: DropCounters,
    ) -> Result<Self> {
        let state = Arc::new(ClientState {
            transport,
            guest: Address::guest(instance),
            own: Address::control(instance),
            peer: Mutex::new(ControlPeer::new(instance, key)),
            calls: Mutex::default(),
            session: watch::Sender::new(None),
            sessions: AtomicU64::default(),
            last_offer: Mutex::default(),
            closed: CancellationToken::new(),
            handler,
            drops: DropRecorder::new(Address::control(instance), drops),
        });
        let consumer = state.transport.open(&state.own).await?;
        let open = CancellationToken::new();
        tokio::spawn({
            let (state, open) = (state.clone(), open.clone());
            async move { open.run_until_cancelled(state.receive(consumer)).await }
        });
        Ok(Self { state, _open: open.drop_guard() })
    }

    /// Sends a request and waits for the reply. Cancelling this does not cancel the request: it may
    /// still take effect.
    ///
    /// # Errors
    ///
    /// [`Timeout`](Kind::Timeout) if no reply came within `limit`, [`Busy`](Kind::Busy) if too many
    /// calls are pending, [`Invalid`](Kind::Invalid) if the request exceeds
    /// [`MAX_PAYLOAD_BYTES`](super::MAX_PAYLOAD_BYTES), [`Unavailable`](Kind::Unavailable) if a
    /// queue of this guest was deleted.
    pub async fn call(
        &self,
        request: &[u8],
        on_restart: OnGuestRestart,
        limit: Duration,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let (sender, mut reply) = oneshot::channel();
        let call = PendingCall { state: &self.state, id: Uuid::new_v4() };
        {
            let mut calls = self.state.calls.lock();
            if calls.len() >= CALLS {
                return Err(Error::busy("too many calls to the guest are pending"));
            }
            calls.insert(call.id, sender);
        }
        let work = async {
            let (mut sent_in, mut delays): (Option<CurrentSession>, _) = (None, reconnect_delays());
            loop {
                let session = tokio::select! {
                    biased;
                    reply = &mut reply => return reply.map_err(|_| closed()),
                    () = self.state.closed.cancelled() => return Err(queue_deleted(sent_in.is_some())),
                    session = self.state.established_session() => session,
                };
                let restarted = sent_in.as_ref().is_some_and(|sent_in| sent_in.boot_id != session.boot_id);
                if restarted && on_restart == OnGuestRestart::Fail {
                    let message = "the guest restarted before it replied";
                    return Err(Error::unavailable(message).permanent().with_effect(Effect::Unknown));
                }
                let sent = self.state.send(|peer| peer.call(call.id, request)).await;
                let resend_after = match sent {
                    Ok(()) => RESEND_AFTER,
                    Err(error) if error.is_transient() => next_delay(&mut delays),
                    Err(error) if error.kind() == Kind::NotFound => {
                        self.state.queue_deleted().await;
                        return Err(queue_deleted(sent_in.is_some()).with_source(error));
                    }
                    Err(error) => return Err(error),
                };
                let number = session.number;
                sent_in = Some(session);
                let mut current = self.state.session.subscribe();
                let is_other =
                    |current: &Option<CurrentSession>| current.as_ref().is_none_or(|current| current.number != number);
                let changed = async { current.wait_for(is_other).await.map(drop) };
                tokio::select! {
                    reply = &mut reply => return reply.map_err(|_| closed()),
                    () = self.state.closed.cancelled() => {}
                    _ = changed => {}
                    () = sleep(resend_after) => self.state.offer().await,
                }
            }
        };
        timeout(limit, work).await.unwrap_or_else(|_| Err(Error::timeout("the guest did not reply in time")))
    }

    /// Changes to another key, which the guest has received already. Pending calls continue.
    /// Afterwards no frame under an earlier key is accepted.
    ///
    /// # Errors
    ///
    /// [`Timeout`](Kind::Timeout) if the guest does not use the key within `limit`; both keys are
    /// accepted then, until it does.
    pub async fn rotate_key(&self, key: InstanceKey, limit: Duration) -> Result<()> {
        let number = key.id();
        self.state.peer.lock().add_key(key);
        // The last offer was made under another key, so it must not delay the next one.
        *self.state.last_offer.lock() = None;
        let activated = async {
            let mut session = self.state.session.subscribe();
            while self.state.peer.lock().active_key() != Some(number) {
                self.state.offer().await;
                // The condition is checked again after a change and after a timeout.
                let _ = timeout(OFFER_INTERVAL, session.changed()).await;
            }
        };
        timeout(limit, activated).await.map_err(|_| Error::timeout("the guest does not use its new key yet"))?;
        self.state.peer.lock().remove_keys_before(number);
        Ok(())
    }
}

/// A call that waits for its reply. Dropping it removes the call.
struct PendingCall<'a> {
    state: &'a ClientState,
    id: Uuid,
}

impl Drop for PendingCall<'_> {
    fn drop(&mut self) {
        self.state.calls.lock().remove(&self.id);
    }
}

impl ClientState {
    /// Waits until a session is established, and returns it.
    async fn established_session(&self) -> CurrentSession {
        let mut session = self.session.subscribe();
        loop {
            if let Some(session) = session.borrow_and_update().clone() {
                return session;
            }
            self.offer().await;
            // The condition is checked again after a change and after a timeout.
            let _ = timeout(OFFER_INTERVAL, session.changed()).await;
        }
    }

    /// Offers a session, unless one was offered within [`OFFER_INTERVAL`].
    async fn offer(&self) {
        {
            let mut last_offer = self.last_offer.lock();
            if last_offer.is_some_and(|last| last.elapsed() < OFFER_INTERVAL) {
                return;
            }
            *last_offer = Some(Instant::now());
        }
        if let Err(error) = self.send(ControlPeer::offer).await {
            tracing::debug!(guest = %self.guest, error = error.report(), "failed to offer a session");
        }
    }

    async fn send(&self, seal: impl FnOnce(&mut ControlPeer) -> Result<Vec<u8>>) -> Result<()> {
        let sent = {
            // The lock keeps frames in the order in which they are sealed.
            let mut peer = self.peer.lock();
            let frame = seal(&mut peer)?;
            self.transport.send(&self.guest, frame)
        };
        sent.await
    }

    /// Receives frames until the queue is deleted.
    async fn receive(&self, mut consumer: Box<dyn QueueConsumer>) {
        self.offer().await;
        let mut delays = reconnect_delays();
        loop {
            match consumer.receive().await {
                Ok(delivery) => {
                    delays = reconnect_delays();
                    // A guest that fills its queue must not starve other tasks.
                    tokio::task::coop::consume_budget().await;
                    self.process(delivery).await;
                }
                Err(error) if error.kind() == Kind::NotFound => return self.queue_deleted().await,
                Err(error) => {
                    tracing::debug!(address = %self.own, error = error.report(), "failed to receive a frame");
                    sleep(next_delay(&mut delays)).await;
                }
            }
        }
    }

    async fn queue_deleted(&self) {
        self.closed.cancel();
        self.handler.queue_deleted().await;
    }

    async fn process(&self, delivery: Delivery) {
        let received = self.peer.lock().receive(delivery.frame());
        match received {
            Ok(GuestEvent::Wake(boot_id)) => {
                // A session with an earlier run of the guest is over. One with this run may merely
                // not be confirmed yet.
                self.session.send_if_modified(|session| {
                    let over = session.as_ref().is_some_and(|session| session.boot_id != boot_id);
                    if over {
                        *session = None;
                    }
                    over
                });
                self.offer().await;
            }
            Ok(GuestEvent::Welcome(boot_id)) => {
                if let Err(error) = self.send(ControlPeer::confirm).await {
                    tracing::debug!(guest = %self.guest, error = error.report(), "failed to confirm a session");
                }
                let number = self.sessions.fetch_add(1, Ordering::Relaxed);
                self.session.send_replace(Some(CurrentSession { number, boot_id }));
            }
            Ok(GuestEvent::Reply(id, payload)) => {
                let pending = self.calls.lock().remove(&id);
                match pending {
                    // The caller may have given up just now.
                    Some(call) => drop(call.send(payload)),
                    None => self.drops.record(DropReason::Unexpected),
                }
            }
            Ok(GuestEvent::Notification(payload)) => self.handler.handle(&payload).await,
            Err(reason) => {
                self.drops.record(reason);
                if matches!(reason, DropReason::NoSession | DropReason::Replayed) {
                    // The guest may not know yet that its session is over, or somebody with its key
                    // used the last sequence numbers of the session.
                    self.offer().await;
                }
            }
        }
        if let Err(error) = delivery.acknowledge().await {
            // If the frame is redelivered, it is dropped as a replay.
            tracing::debug!(address = %self.own, error = error.report(), "failed to acknowledge a frame");
        }
    }
}

fn closed() -> Error {
    Error::internal("the RPC client is closed")
}

fn queue_deleted(sent: bool) -> Error {
    let effect = if sent { Effect::Unknown } else { Effect::None };
    Error::unavailable("a queue of the guest was deleted").with_effect(effect)
}
