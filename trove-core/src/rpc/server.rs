//! The guest's side: each request is handled once, however often it is delivered.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot, watch},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    Address, DropCounters, KeyRing, QueueConsumer, SendFuture, Transport,
    drops::DropRecorder,
    session::{ControlEvent, GuestPeer},
    transport::{next_delay, reconnect_delays},
};
use crate::{
    error::{Kind, Result},
    id::InstanceId,
};

/// The maximum number of calls that are remembered: those in progress and the last that were
/// answered.
const CALLS: usize = 256;
/// The maximum number of queued notifications. If there are more, the oldest are discarded.
const NOTIFICATIONS: usize = 64;
/// The maximum number of notifications in flight.
const NOTIFICATIONS_IN_FLIGHT: usize = 64;
/// The interval at which a guest without a session sends `Wake`.
const WAKE_INTERVAL: Duration = Duration::from_secs(2);

/// Handles the requests of the control plane.
#[async_trait]
pub trait RequestHandler: Send + Sync + 'static {
    /// Handles a request and returns the reply. Called once for each request; the caller going away
    /// does not cancel it.
    async fn handle(&self, request: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>>;
}

/// Sends notifications to the control plane. Clones share their queue.
#[derive(Clone, Default)]
pub struct Notifier(Arc<NotifierState>);

#[derive(Default)]
struct NotifierState {
    queue: Mutex<VecDeque<Notification>>,
    queued: Notify,
    /// How many sessions have replaced an earlier one.
    replacements: watch::Sender<u64>,
}

struct Notification {
    payload: Zeroizing<Vec<u8>>,
    sent: Option<oneshot::Sender<()>>,
}

/// Serves the requests of the control plane to one guest.
pub struct RpcServer(Arc<ServerState>);

struct ServerState {
    transport: Arc<dyn Transport>,
    control: Address,
    own: Address,
    peer: Mutex<GuestPeer>,
    calls: Mutex<VecDeque<KnownCall>>,
    /// True once a session is established.
    session: watch::Sender<bool>,
    handler: Arc<dyn RequestHandler>,
    notifier: Notifier,
    drops: DropRecorder,
    tasks: TaskTracker,
    handlers: CancellationToken,
}

/// A call that was received, and its reply once it is answered.
struct KnownCall {
    id: Uuid,
    reply: Option<Zeroizing<Vec<u8>>>,
}

/// A call in progress. If it is dropped without a reply, the call is forgotten.
struct CallInProgress<'a> {
    state: &'a ServerState,
    id: Uuid,
}

impl Drop for CallInProgress<'_> {
    fn drop(&mut self) {
        self.state.calls.lock().retain(|known| known.id != self.id || known.reply.is_some());
    }
}

impl Notifier {
    /// Creates a notifier with an empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Queues a notification, which is sent once a session is established.
    ///
    /// Delivery is not guaranteed: notifications are lost if the control plane restarts, and the
    /// oldest are discarded if too many wait. They must report state that is reported repeatedly.
    pub fn notify(&self, payload: Zeroizing<Vec<u8>>) {
        self.push(Notification { payload, sent: None });
    }

    /// Queues a notification and waits until it was sent, and so before any reply that is sent from
    /// then on, or discarded.
    pub async fn notify_and_flush(&self, payload: Zeroizing<Vec<u8>>) {
        let (sent, flushed) = oneshot::channel();
        self.push(Notification { payload, sent: Some(sent) });
        // An error means that the notification was discarded.
        let _ = flushed.await;
    }

    /// Returns a receiver that changes when a session replaces an earlier one. The control plane has
    /// then probably restarted, and lost what it was notified of.
    pub(crate) fn replacements(&self) -> watch::Receiver<u64> {
        self.0.replacements.subscribe()
    }

    fn push(&self, notification: Notification) {
        let mut queue = self.0.queue.lock();
        queue.push_back(notification);
        if queue.len() > NOTIFICATIONS {
            queue.pop_front();
        }
        self.0.queued.notify_one();
    }

    /// Waits for the next notification to send.
    async fn next(&self) -> Notification {
        loop {
            if let Some(notification) = self.0.queue.lock().pop_front() {
                return notification;
            }
            self.0.queued.notified().await;
        }
    }
}

impl Notification {
    fn finish(self) {
        if let Some(sent) = self.sent {
            // The caller may have stopped waiting.
            let _ = sent.send(());
        }
    }
}

impl RpcServer {
    /// Creates the server of the guest of an instance.
    pub fn new(
        transport: Arc<dyn Transport>,
        instance: InstanceId,
        keys: KeyRing,
        handler: Arc<dyn RequestHandler>,
        notifier: Notifier,
        drops: DropCounters,
    ) -> Result<Self> {
        let state = Arc::new(ServerState {
            transport,
            control: Address::control(instance),
            own: Address::guest(instance),
            peer: Mutex::new(GuestPeer::new(instance, keys)?),
            calls: Mutex::default(),
            session: watch::Sender::new(false),
            handler,
            notifier,
            drops: DropRecorder::new(Address::guest(instance), drops),
            tasks: TaskTracker::new(),
            handlers: CancellationToken::new(),
        });
        Ok(Self(state))
    }

    /// Serves requests until `stop` is cancelled, and then waits for the requests in progress.
    /// Retries while the transport is unavailable.
    ///
    /// # Errors
    ///
    /// [`Conflict`](Kind::Conflict) if another server consumes the queue of this guest,
    /// [`NotFound`](Kind::NotFound) if the queue does not exist.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        let Self(state) = self;
        let Some(consumer) = stop.run_until_cancelled(state.open()).await.transpose()? else { return Ok(()) };
        // Dropping this future cancels the requests in progress.
        let _handlers = state.handlers.clone().drop_guard();
        let ended = tokio::select! {
            ended = state.receive(consumer) => ended,
            () = state.wake() => Ok(()),
            () = state.send_notifications() => Ok(()),
            () = stop.cancelled() => Ok(()),
        };
        state.tasks.close();
        state.tasks.wait().await;
        ended
    }
}

impl ServerState {
    /// Opens the queue, retrying while the error is transient.
    async fn open(&self) -> Result<Box<dyn QueueConsumer>> {
        let mut delays = reconnect_delays();
        loop {
            match self.transport.open(&self.own).await {
                Err(error) if error.is_transient() => {
                    tracing::warn!(guest = %self.own, error = error.report(), "failed to reach the control plane");
                }
                opened => return opened,
            }
            sleep(next_delay(&mut delays)).await;
        }
    }

    async fn receive(self: &Arc<Self>, mut consumer: Box<dyn QueueConsumer>) -> Result<()> {
        let mut delays = reconnect_delays();
        loop {
            match consumer.receive().await {
                Ok(delivery) => {
                    delays = reconnect_delays();
                    // A full queue must not starve other tasks.
                    tokio::task::coop::consume_budget().await;
                    let (received, replacements) = {
                        let mut peer = self.peer.lock();
                        (peer.receive(delivery.frame()), peer.replacements())
                    };
                    let seen = &self.notifier.0.replacements;
                    seen.send_if_modified(|seen| std::mem::replace(seen, replacements) != replacements);
                    match received {
                        Ok(ControlEvent::Offer(welcome)) => {
                            self.log_failure(self.transport.send(&self.control, welcome).await);
                        }
                        Ok(ControlEvent::Confirmed) => drop(self.session.send_replace(true)),
                        Ok(ControlEvent::Call(id, request)) => {
                            self.session.send_replace(true);
                            self.handle(id, request).await;
                        }
                        Err(reason) => self.drops.record(reason),
                    }
                    self.log_failure(delivery.acknowledge().await);
                }
                Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Conflict) => return Err(error),
                Err(error) => {
                    self.log_failure(Err(error));
                    sleep(next_delay(&mut delays)).await;
                }
            }
        }
    }

    /// Handles a call, or sends its reply again if it was answered already.
    async fn handle(self: &Arc<Self>, id: Uuid, request: Zeroizing<Vec<u8>>) {
        let reply = {
            let mut calls = self.calls.lock();
            match calls.iter().find(|known| known.id == id) {
                Some(known) => known.reply.clone(),
                None => {
                    if calls.len() >= CALLS {
                        // Forget the oldest answered call. If there is none, ignore the new call;
                        // the control plane resends it.
                        let Some(old) = calls.iter().position(|known| known.reply.is_some()) else { return };
                        calls.remove(old);
                    }
                    calls.push_back(KnownCall { id, reply: None });
                    let state = self.clone();
                    self.tasks.spawn(self.handlers.clone().run_until_cancelled_owned(async move {
                        // If the handler panics, the call is forgotten, so that a resent one is
                        // handled.
                        let call = CallInProgress { state: &state, id };
                        let reply = state.handler.handle(request).await;
                        state.remember_reply(id, &reply);
                        drop(call);
                        state.reply(id, &reply).await;
                    }));
                    return;
                }
            }
        };
        if let Some(reply) = reply {
            self.reply(id, &reply).await;
        }
    }

    fn remember_reply(&self, id: Uuid, reply: &Zeroizing<Vec<u8>>) {
        if let Some(known) = self.calls.lock().iter_mut().find(|known| known.id == id) {
            known.reply = Some(reply.clone());
        }
    }

    /// Sends a reply. If it is lost, the control plane resends the call.
    async fn reply(&self, id: Uuid, reply: &[u8]) {
        self.log_failure(self.send(|peer| peer.reply(id, reply)).await);
    }

    /// Sends `Wake` frames until a session is established.
    async fn wake(&self) {
        let mut session = self.session.subscribe();
        while !*session.borrow_and_update() {
            let frames = self.peer.lock().wake();
            match frames {
                Ok(frames) => {
                    for frame in frames {
                        self.log_failure(self.transport.send(&self.control, frame).await);
                    }
                }
                Err(error) => self.log_failure(Err(error)),
            }
            // The condition is checked again after a change and after a timeout.
            let _ = tokio::time::timeout(WAKE_INTERVAL, session.changed()).await;
        }
        std::future::pending().await
    }

    /// Sends notifications in order, several of them before the first is confirmed.
    async fn send_notifications(&self) {
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self.session.subscribe().wait_for(|established| *established).await;
        let mut in_flight: VecDeque<(Notification, Result<SendFuture>)> = VecDeque::new();
        loop {
            let has_room = in_flight.len() < NOTIFICATIONS_IN_FLIGHT;
            let first = async {
                match in_flight.front_mut() {
                    Some((_, Ok(sent))) => sent.await,
                    Some((_, Err(error))) => Err(error.clone()),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                outcome = first => match outcome {
                    Err(error) if error.is_transient() => {
                        // Resend all of them, so that the order is kept.
                        let unsent: Vec<Notification> = in_flight.drain(..).map(|(notification, _)| notification).collect();
                        for notification in unsent {
                            self.resend_until_sent(notification).await;
                        }
                    }
                    outcome => {
                        self.log_failure(outcome);
                        in_flight.pop_front().into_iter().for_each(|(notification, _)| notification.finish());
                    }
                },
                notification = self.notifier.next(), if has_room => {
                    let sent = self.start_send(|peer| peer.notify(&notification.payload));
                    in_flight.push_back((notification, sent));
                }
            }
        }
    }

    async fn resend_until_sent(&self, notification: Notification) {
        let mut delays = reconnect_delays();
        while let Err(error) = self.send(|peer| peer.notify(&notification.payload)).await {
            if !error.is_transient() {
                self.log_failure(Err(error));
                break;
            }
            sleep(next_delay(&mut delays)).await;
        }
        notification.finish();
    }

    async fn send(&self, seal: impl FnOnce(&mut GuestPeer) -> Result<Vec<u8>>) -> Result<()> {
        self.start_send(seal)?.await
    }

    fn start_send(&self, seal: impl FnOnce(&mut GuestPeer) -> Result<Vec<u8>>) -> Result<SendFuture> {
        // The lock keeps frames in the order in which they are sealed.
        let mut peer = self.peer.lock();
        let frame = seal(&mut peer)?;
        Ok(self.transport.send(&self.control, frame))
    }

    fn log_failure(&self, result: Result<()>) {
        if let Err(error) = result {
            tracing::debug!(guest = %self.own, error = error.report(), "failed to reach the control plane");
        }
    }
}
