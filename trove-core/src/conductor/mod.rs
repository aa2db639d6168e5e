//! The conductor: takes the reports of guests in and writes them to the store, many in one transaction.

use std::{collections::HashMap, time::Duration};

use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    events::Events,
    id::InstanceId,
    model::{Event, EventKind},
    store::{Report, Store},
};

/// How many reports may wait to be written before guests wait.
const QUEUE: usize = 1024;
/// How many are written at a time.
const BATCH: usize = 256;
/// How long to wait before writing again what could not be written.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Begins to take reports. The task ends, with all that came in written, when the last sender is dropped.
pub(crate) fn start(store: Store, events: Events) -> (mpsc::Sender<Report>, JoinHandle<()>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (sender, tokio::spawn(run(store, events, receiver)))
}

async fn run(store: Store, events: Events, mut receiver: mpsc::Receiver<Report>) {
    let mut batch = Vec::with_capacity(BATCH);
    while receiver.recv_many(&mut batch, BATCH).await > 0 {
        // Of one instance only the newest report counts.
        let newest: HashMap<InstanceId, Report> = batch.drain(..).map(|report| (report.instance, report)).collect();
        let reports: Vec<Report> = newest.into_values().collect();
        match store.report(&reports).await {
            Ok(changed) => {
                for (instance, health, at) in changed {
                    events.publish(Event::new(at, instance, EventKind::Health { health }));
                }
            }
            Err(error) => {
                // They are repeated soon; until then the instances show as not reporting, which is the truth.
                tracing::warn!(error = error.report(), count = reports.len(), "reports could not be stored");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}
