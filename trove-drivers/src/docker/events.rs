//! One stream of the daemon's events, which wakes those who wait for an event of a container.
//!
//! There is one permit for each container and no queue: a woken waiter inspects the container
//! itself. The stream starts with the first waiter and ends with the last handle. While the daemon
//! is unavailable, the stream is retried with back-off, and each attempt wakes every waiter.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::{sync::Notify, task::JoinHandle};

use super::{Docker, DockerInner};

/// The bounds of the delay between two attempts to reach the daemon.
const MIN_DELAY: Duration = Duration::from_millis(200);
const MAX_DELAY: Duration = Duration::from_secs(5);
const ACTIONS: [&str; 6] = ["die", "oom", "pause", "unpause", "destroy", "kill"];

/// The waiters of one handle and its stream, which is aborted with it.
#[derive(Debug, Default)]
pub(crate) struct EventListeners {
    waiters: Mutex<HashMap<String, Weak<Notify>>>,
    stream: Mutex<Option<JoinHandle<()>>>,
}

/// Waits for events of one container.
#[derive(Debug)]
pub(crate) struct EventWaiter {
    docker: Docker,
    notify: Arc<Notify>,
}

impl EventWaiter {
    /// Returns once the container may have had an event since the last call returned.
    pub(crate) async fn next_event(&self) {
        self.docker.listen();
        self.notify.notified().await;
    }
}

impl Docker {
    /// Returns a waiter for events of the container of this name.
    pub(crate) fn event_waiter(&self, container: &str) -> EventWaiter {
        let mut waiters = self.0.events.waiters.lock();
        waiters.retain(|_, notify| notify.strong_count() > 0);
        let known = waiters.get(container).and_then(Weak::upgrade);
        let notify = known.unwrap_or_else(|| {
            let notify = Arc::new(Notify::new());
            waiters.insert(container.to_owned(), Arc::downgrade(&notify));
            notify
        });
        EventWaiter { docker: self.clone(), notify }
    }

    fn listen(&self) {
        let mut stream = self.0.events.stream.lock();
        if stream.as_ref().is_none_or(JoinHandle::is_finished) {
            *stream = Some(tokio::spawn(follow(Arc::downgrade(&self.0))));
        }
    }
}

impl EventListeners {
    fn wake(&self, container: &str) {
        let waiters = self.waiters.lock();
        if let Some(notify) = waiters.get(container).and_then(Weak::upgrade) {
            notify.notify_one();
        }
    }

    fn wake_all(&self) {
        let waiters = self.waiters.lock();
        waiters.values().filter_map(Weak::upgrade).for_each(|notify| notify.notify_one());
    }
}

impl Drop for EventListeners {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.get_mut() {
            stream.abort();
        }
    }
}

/// Follows the stream as long as there are handles, without being one.
async fn follow(docker: Weak<DockerInner>) {
    let reconnect =
        ExponentialBuilder::new().with_min_delay(MIN_DELAY).with_max_delay(MAX_DELAY).with_jitter().without_max_times();
    let mut delays = reconnect.build();
    loop {
        let Some(inner) = docker.upgrade() else { return };
        let connected = inner.client().await.ok().cloned();
        drop(inner);
        if let Some(client) = connected {
            let kinds = HashMap::from([("type", vec!["container"]), ("event", ACTIONS.to_vec())]);
            let mut events = Box::pin(client.events(Some(EventsOptionsBuilder::new().filters(&kinds).build())));
            while let Some(Ok(event)) = events.next().await {
                delays = reconnect.build();
                let Some(inner) = docker.upgrade() else { return };
                let attributes = event.actor.and_then(|actor| actor.attributes).unwrap_or_default();
                if let Some(name) = attributes.get("name") {
                    inner.events.wake(name);
                }
            }
            tracing::debug!("the event stream of the Docker daemon ended");
        }
        let Some(inner) = docker.upgrade() else { return };
        // Events are lost while the stream is interrupted, so every waiter checks.
        inner.events.wake_all();
        drop(inner);
        tokio::time::sleep(delays.next().unwrap_or(MAX_DELAY)).await;
    }
}
