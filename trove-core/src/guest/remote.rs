//! What the control plane hears of a guest.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Telling,
    lifeline::Lifeline,
    message::{self, Notice},
};
use crate::{
    datastore::ProgressSink,
    id::{InstanceId, OperationId},
    model::{Health, Observed},
    rpc::NotificationHandler,
    store::InstanceReport,
    time::Clock,
};

/// The longest text that is taken of a guest, in letters.
pub(super) const MAX_TEXT: usize = 2000;
/// The most names of parameters.
pub(super) const MAX_NAMES: usize = 500;

/// How long what a job came to may take to be stored before what comes after it is heard.
const STORED_PATIENCE: Duration = Duration::from_secs(5);

/// Takes what one guest tells. It can only speak for its own instance: whose line it is decides.
pub(super) struct Remote {
    instance: InstanceId,
    reports: mpsc::Sender<Telling>,
    clock: Clock,
    lifeline: Lifeline,
    followers: Mutex<HashMap<OperationId, ProgressSink>>,
    /// How many times some job ended.
    ended: watch::Sender<u64>,
    /// How much it told that made no sense.
    nonsense: AtomicU64,
}

impl Remote {
    pub(super) fn new(instance: InstanceId, reports: mpsc::Sender<Telling>, clock: Clock, lifeline: Lifeline) -> Self {
        Self {
            instance,
            reports,
            clock,
            lifeline,
            followers: Mutex::default(),
            ended: watch::Sender::new(0),
            nonsense: AtomicU64::default(),
        }
    }

    /// Tells this sink of the operation's progress, until what is returned is dropped.
    pub(super) fn follow(self: &Arc<Self>, operation: OperationId, sink: ProgressSink) -> Following {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner).insert(operation, sink);
        Following { remote: self.clone(), operation }
    }

    /// Ends when a job ends, from now on.
    pub(super) fn job_ended(&self) -> impl Future<Output = ()> + use<> {
        let mut ended = self.ended.subscribe();
        async move {
            // It ends only with the guest.
            let _ = ended.changed().await;
        }
    }
}

#[async_trait]
impl NotificationHandler for Remote {
    async fn handle(&self, text: &[u8]) {
        match message::read(text) {
            Ok(Notice::Seen { observed, settled }) => {
                let report =
                    InstanceReport { instance: self.instance, observed: plain(observed), at: self.clock.now() };
                let (stored, seen) = oneshot::channel();
                let telling = Telling { report, stored: settled.then_some(stored) };
                if settled {
                    // What a caller hears as done is in the store by the time it looks, unless that is away.
                    let told = async {
                        // The receiver ends only with the service.
                        let _ = self.reports.send(telling).await;
                        let _ = seen.await;
                    };
                    let _ = tokio::time::timeout(STORED_PATIENCE, told).await;
                } else if self.reports.try_send(telling).is_err() {
                    // It is repeated soon; one guest does not wait here for all others.
                    tracing::debug!(instance = %self.instance, "a report was dropped: too many wait to be stored");
                }
            }
            Ok(Notice::Progress { operation, mut progress }) => {
                (progress.phase, progress.unit) = (short(&progress.phase), short(&progress.unit));
                let sink = self.followers.lock().unwrap_or_else(PoisonError::into_inner).get(&operation).cloned();
                if let Some(sink) = sink {
                    sink(progress);
                }
            }
            Ok(Notice::JobEnded) => self.ended.send_modify(|ended| *ended += 1),
            Err(error) => {
                // Ever fewer of them: whoever floods is not to fill the log.
                let count = self.nonsense.fetch_add(1, Ordering::Relaxed) + 1;
                if count.is_power_of_two() {
                    tracing::warn!(instance = %self.instance, count, error = error.report(), "nothing that makes sense");
                }
            }
        }
    }

    async fn queue_deleted(&self) {
        tracing::error!(instance = %self.instance, "a mailbox is gone");
        self.lifeline.cut();
    }
}

/// What was seen, with texts that can be stored and shown: a guest may be anybody.
pub(super) fn plain(mut observed: Observed) -> Observed {
    observed.server_version = observed.server_version.map(|version| short(&version));
    match &mut observed.health {
        Health::Unknown(problem) | Health::Impaired(problem) | Health::Down(problem) => {
            problem.message = short(&problem.message);
        }
        Health::Starting | Health::Healthy | Health::Stopped => {}
    }
    if let Some(settings) = &mut observed.settings {
        settings.rejected = settings.rejected.as_deref().map(short);
        settings.restart_required.truncate(MAX_NAMES);
        settings.restart_required.iter_mut().for_each(|name| *name = short(name));
    }
    observed
}

/// So much of a text as may be shown, without what cannot.
fn short(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(MAX_TEXT).collect()
}

/// Somebody who is told of an operation's progress.
pub(super) struct Following {
    remote: Arc<Remote>,
    operation: OperationId,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.remote.followers.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.operation);
    }
}
