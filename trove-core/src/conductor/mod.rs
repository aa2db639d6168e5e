//! The conductor: receives the reports of guests and writes them to the store in batches.

use std::time::Duration;

use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    error::Result,
    events::Events,
    model::Event,
    store::{InstanceReport, Store},
    taskmanager::PendingReport,
};

/// The capacity of the queue of reports.
const QUEUE: usize = 1024;
/// The maximum number of reports per transaction.
const BATCH: usize = 256;
/// How long to wait after a batch could not be stored.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Starts the task that stores reports. Once `stop` is cancelled, the task stores what is queued
/// and ends.
pub(crate) fn start(
    store: Store,
    events: Events,
    stop: CancellationToken,
) -> (mpsc::Sender<PendingReport>, JoinHandle<()>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (sender, tokio::spawn(run(store, events, receiver, stop)))
}

/// Stores each report in its own transaction. Fails if none could be stored.
async fn one_by_one(store: &Store, reports: &[InstanceReport]) -> Result<Vec<Event>> {
    let (mut changed, mut failed) = (Vec::new(), Vec::new());
    for report in reports {
        match store.report(std::slice::from_ref(report)).await {
            Ok(events) => changed.extend(events),
            Err(error) => failed.push((report.instance, error)),
        }
    }
    if failed.len() == reports.len()
        && let Some((_, error)) = failed.pop()
    {
        return Err(error);
    }
    for (instance, error) in failed {
        tracing::warn!(%instance, error = error.report(), "failed to store a report");
    }
    Ok(changed)
}

async fn run(store: Store, events: Events, mut receiver: mpsc::Receiver<PendingReport>, stop: CancellationToken) {
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
        // All reports count, in order: a server that was down between two reports was down.
        let (reports, waiting): (Vec<_>, Vec<_>) =
            batch.drain(..).map(|pending| (pending.report, pending.stored)).unzip();
        let stored = match store.report(&reports).await {
            // A report that cannot be stored must not discard the others.
            Err(_) if reports.len() > 1 => one_by_one(&store, &reports).await,
            stored => stored,
        };
        match stored {
            Ok(changed) => {
                changed.into_iter().for_each(|event| events.publish(event));
                for stored in waiting.into_iter().flatten() {
                    // Fails only if the receiver has timed out.
                    let _ = stored.send(());
                }
            }
            Err(error) => {
                // Guests repeat their reports; until then the instances show as not reporting, which is accurate.
                tracing::warn!(error = error.report(), count = reports.len(), "failed to store reports");
                tokio::time::sleep(RETRY_DELAY).await;
            }
        }
    }
}
