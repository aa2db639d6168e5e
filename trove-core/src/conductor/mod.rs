//! The conductor: takes the reports of guests in and writes them to the store, many in one transaction.

use std::time::Duration;

use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    error::Result,
    events::Events,
    guest::Telling,
    model::Event,
    store::{InstanceReport, Store},
};

/// How many reports may wait to be written before guests wait.
const QUEUE: usize = 1024;
/// How many are written at a time.
const BATCH: usize = 256;
/// How long to wait before writing again what could not be written.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Begins to take reports. Told to stop, the task writes what has come in and ends.
pub(crate) fn start(store: Store, events: Events, stop: CancellationToken) -> (mpsc::Sender<Telling>, JoinHandle<()>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (sender, tokio::spawn(run(store, events, receiver, stop)))
}

/// Stores each report by itself. An error is that of the first, where none can be stored.
async fn one_by_one(store: &Store, reports: &[InstanceReport]) -> Result<Vec<Event>> {
    let (mut changed, mut refused) = (Vec::new(), Vec::new());
    for report in reports {
        match store.report(std::slice::from_ref(report)).await {
            Ok(events) => changed.extend(events),
            Err(error) => refused.push((report.instance, error)),
        }
    }
    if refused.len() == reports.len()
        && let Some((_, error)) = refused.pop()
    {
        return Err(error);
    }
    for (instance, error) in refused {
        tracing::warn!(%instance, error = error.report(), "a report could not be stored");
    }
    Ok(changed)
}

async fn run(store: Store, events: Events, mut receiver: mpsc::Receiver<Telling>, stop: CancellationToken) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let received = tokio::select! {
            biased;
            received = receiver.recv_many(&mut batch, BATCH) => received,
            () = stop.cancelled(), if !receiver.is_closed() => {
                receiver.close();
                continue;
            }
        };
        if received == 0 {
            return;
        }
        // In order and all of them: a server that was down between two reports was down.
        let (reports, waiting): (Vec<_>, Vec<_>) = batch.drain(..).map(|told| (told.report, told.stored)).unzip();
        let stored = match store.report(&reports).await {
            // One that cannot be stored is not to take others with it.
            Err(_) if reports.len() > 1 => one_by_one(&store, &reports).await,
            stored => stored,
        };
        match stored {
            Ok(changed) => {
                changed.into_iter().for_each(|event| events.publish(event));
                for stored in waiting.into_iter().flatten() {
                    // Whoever has given up waiting does not mind.
                    let _ = stored.send(());
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
