//! What the control plane hears of a guest.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Telling,
    message::{self, Notice},
};
use crate::{
    datastore::ProgressSink,
    id::{InstanceId, OperationId},
    rpc::Listener,
    store::Report,
    time::Clock,
};

/// How long what a job came to may take to be stored before what comes after it is heard.
const STORED_PATIENCE: Duration = Duration::from_secs(5);

/// Takes what one guest tells. It can only speak for its own instance: whose line it is decides.
pub(super) struct Remote {
    instance: InstanceId,
    reports: mpsc::Sender<Telling>,
    clock: Clock,
    followers: Mutex<HashMap<OperationId, ProgressSink>>,
    /// How many times some job ended.
    ended: watch::Sender<u64>,
}

impl Remote {
    pub(super) fn new(instance: InstanceId, reports: mpsc::Sender<Telling>, clock: Clock) -> Self {
        Self { instance, reports, clock, followers: Mutex::default(), ended: watch::Sender::new(0) }
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
impl Listener for Remote {
    async fn told(&self, text: &[u8]) {
        match message::read(text) {
            Ok(Notice::Seen { observed, settled }) => {
                let report = Report { instance: self.instance, observed, at: self.clock.now() };
                let (stored, seen) = oneshot::channel();
                let telling = Telling { report, stored: settled.then_some(stored) };
                // The receiver ends only with the service.
                let _ = self.reports.send(telling).await;
                if settled {
                    // What a caller hears as done is in the store by the time it looks, unless that is away.
                    let _ = tokio::time::timeout(STORED_PATIENCE, seen).await;
                }
            }
            Ok(Notice::Progress { operation, progress }) => {
                let sink = self.followers.lock().unwrap_or_else(PoisonError::into_inner).get(&operation).cloned();
                if let Some(sink) = sink {
                    sink(progress);
                }
            }
            Ok(Notice::JobEnded) => self.ended.send_modify(|ended| *ended += 1),
            Err(error) => tracing::warn!(instance = %self.instance, error = error.report(), "nothing that makes sense"),
        }
    }
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
