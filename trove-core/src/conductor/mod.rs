//! The conductor: receives the reports of guests and writes them to the store in batches.

use std::time::Duration;

use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    error::Result,
    events::Events,
    model::Event,
    store::{InstanceReport, Store},
    taskmanager::ReportQueue,
};

/// The maximum number of reports per transaction.
const BATCH: usize = 256;
/// The time between two transactions while there are fewer reports than a batch has and nobody waits,
/// so that guests that report often do not occupy the store.
const BATCH_INTERVAL: Duration = Duration::from_millis(100);
/// How long to wait after a batch could not be stored.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Starts the task that stores reports. Once `stop` is cancelled, the task stores what is queued
/// and ends.
pub(crate) fn start(store: Store, events: Events, stop: CancellationToken) -> (ReportQueue, JoinHandle<()>) {
    let queue = ReportQueue::new();
    (queue.clone(), tokio::spawn(run(store, events, queue, stop)))
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

async fn run(store: Store, events: Events, queue: ReportQueue, stop: CancellationToken) {
    let mut pace = interval(BATCH_INTERVAL);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = queue.filled() => {}
            () = stop.cancelled() => queue.close(),
        }
        tokio::select! {
            () = queue.pressing(BATCH) => {}
            () = stop.cancelled() => queue.close(),
            _ = pace.tick() => {}
        }
        let (reports, waiting): (Vec<_>, Vec<_>) =
            queue.take(BATCH).into_iter().map(|queued| (queued.report, queued.stored)).unzip();
        if reports.is_empty() {
            // Closed, and everything is stored.
            return;
        }
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
                tracing::warn!(error = error.report(), count = reports.len(), "failed to store reports");
                drop(waiting);
                queue.put_back(reports);
                stop.run_until_cancelled(tokio::time::sleep(RETRY_DELAY)).await;
            }
        }
    }
}
