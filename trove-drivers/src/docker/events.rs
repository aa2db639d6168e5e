//! One stream of the daemon's events, which wakes those who wait for something to happen to a container.
//!
//! What is kept is one permit a container and no queue: whoever is woken looks for itself. The stream begins with the
//! first waiter and ends with the last handle. While the daemon is away it is tried again with growing pauses, and
//! everyone is woken at each try.

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

use super::{Docker, Inner};

/// The bounds of the delay between two attempts to reach the daemon.
const MIN_DELAY: Duration = Duration::from_millis(200);
const MAX_DELAY: Duration = Duration::from_secs(5);
const ACTIONS: [&str; 6] = ["die", "oom", "pause", "unpause", "destroy", "kill"];

/// The listeners of one handle and its stream, which is aborted with it.
#[derive(Debug, Default)]
pub(crate) struct Events {
    wakers: Mutex<HashMap<String, Weak<Notify>>>,
    stream: Mutex<Option<JoinHandle<()>>>,
}

/// Waits for events of one container.
#[derive(Debug)]
pub(crate) struct Waker {
    docker: Docker,
    notify: Arc<Notify>,
}

impl Waker {
    /// Ends when something happened to the container since the last call ended, or may have.
    pub(crate) async fn woken(&self) {
        self.docker.listen();
        self.notify.notified().await;
    }
}

impl Docker {
    /// Something to wait with for events of the container of this name.
    pub(crate) fn waker(&self, container: &str) -> Waker {
        let mut wakers = self.0.events.wakers.lock();
        wakers.retain(|_, notify| notify.strong_count() > 0);
        let known = wakers.get(container).and_then(Weak::upgrade);
        let notify = known.unwrap_or_else(|| {
            let notify = Arc::new(Notify::new());
            wakers.insert(container.to_owned(), Arc::downgrade(&notify));
            notify
        });
        Waker { docker: self.clone(), notify }
    }

    fn listen(&self) {
        let mut stream = self.0.events.stream.lock();
        if stream.as_ref().is_none_or(JoinHandle::is_finished) {
            *stream = Some(tokio::spawn(follow(Arc::downgrade(&self.0))));
        }
    }
}

impl Events {
    fn wake(&self, container: &str) {
        let wakers = self.wakers.lock();
        if let Some(notify) = wakers.get(container).and_then(Weak::upgrade) {
            notify.notify_one();
        }
    }

    fn wake_all(&self) {
        let wakers = self.wakers.lock();
        wakers.values().filter_map(Weak::upgrade).for_each(|notify| notify.notify_one());
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.get_mut() {
            stream.abort();
        }
    }
}

/// Follows the stream for as long as there are handles, without being one.
async fn follow(docker: Weak<Inner>) {
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
            tracing::debug!("the stream of the Docker daemon's events ended");
        }
        let Some(inner) = docker.upgrade() else { return };
        // What happens while nobody listens is not told later, so that everyone looks for themselves.
        inner.events.wake_all();
        drop(inner);
        tokio::time::sleep(delays.next().unwrap_or(MAX_DELAY)).await;
    }
}
