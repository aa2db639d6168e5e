use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{Call, Layer, Next};
use crate::{
    datastore::Cx,
    error::{Kind, Result},
};

/// Counts calls by how they ended and how long they took.
///
/// Clones count together, so that one may be around all datastores of a service. There is a series for each call and
/// each way to end that was seen, a few hundred at most, however many instances there are.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use trove_core::{conformance::{driver, memory::World}, datastore::Driver, layer::{Ended, Metrics}};
///
/// let metrics = Metrics::default();
/// let counting = metrics.clone();
/// let world = World::new();
/// let driver = world.driver().layer(move |_| counting.clone());
/// # driver::certify_only(world.testbed_for(std::sync::Arc::new(driver)), "second_prepare").await;
/// // ...
/// let prepared = metrics.snapshot().into_iter().find(|series| series.call == "prepare" && series.ended == Ended::Done);
/// assert!(prepared.unwrap().count > 0);
/// # });
/// ```
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<HashMap<(&'static str, Ended), Series>>>);

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ended {
    /// It was done.
    Done,
    /// It failed, like this.
    Failed(Kind),
    /// Its caller stopped waiting for it.
    Dropped,
}

/// The calls of one name that ended in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// The call, as [`Call::name`] has it.
    pub call: &'static str,
    /// How they ended.
    pub ended: Ended,
    /// How many there were.
    pub count: u64,
    /// How long they took together.
    pub total: Duration,
    /// How many took no longer than each of [`Metrics::BOUNDS`]; those that took longer are in none.
    pub within: [u64; Metrics::BOUNDS.len()],
}

impl Metrics {
    /// The durations by which calls are counted.
    pub const BOUNDS: [Duration; 8] = [
        Duration::from_millis(1),
        Duration::from_millis(10),
        Duration::from_millis(100),
        Duration::from_secs(1),
        Duration::from_secs(10),
        Duration::from_secs(60),
        Duration::from_secs(600),
        Duration::from_secs(3600),
    ];

    /// What was counted so far, in order of call and end.
    pub fn snapshot(&self) -> Vec<Series> {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut series: Vec<_> = counted.values().cloned().collect();
        drop(counted);
        series.sort_by_key(|series| (series.call, series.ended));
        series
    }

    fn count(&self, call: &'static str, ended: Ended, took: Duration) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let series = counted.entry((call, ended)).or_insert_with(|| Series {
            call,
            ended,
            count: 0,
            total: Duration::ZERO,
            within: Default::default(),
        });
        series.count += 1;
        series.total = series.total.saturating_add(took);
        for (within, bound) in series.within.iter_mut().zip(Self::BOUNDS) {
            *within += u64::from(took <= bound);
        }
    }
}

/// A call that is being made. Counts it when it goes.
struct Running<'a> {
    metrics: &'a Metrics,
    call: &'static str,
    begun: Instant,
    ended: Ended,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.metrics.count(self.call, self.ended, self.begun.elapsed());
    }
}

impl Layer for Metrics {
    async fn around<'a, T: Send + 'a>(&'a self, _cx: &'a Cx, call: &'a Call<'a>, next: Next<'a, T>) -> Result<T> {
        let mut running = Running { metrics: self, call: call.name, begun: Instant::now(), ended: Ended::Dropped };
        let done = next().await;
        running.ended = done.as_ref().map_or_else(|error| Ended::Failed(error.kind()), |_| Ended::Done);
        done
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::{error::Error, id::OperationId};

    #[tokio::test(start_paused = true)]
    async fn calls_are_counted_by_how_they_ended_and_how_long_they_took() {
        let (metrics, cx) = (Metrics::default(), Cx::new(OperationId::new_v4(), 1));
        let start = Call { name: "start", changes: true, repeatable: true, arguments: &() };
        for seconds in [2, 100_000] {
            let next = || {
                Box::pin(async move {
                    sleep(Duration::from_secs(seconds)).await;
                    Ok(())
                }) as _
            };
            metrics.clone().around(&cx, &start, &next).await.unwrap();
        }
        metrics.around(&cx, &start, &|| Box::pin(async { Err::<(), _>(Error::busy("not now")) })).await.unwrap_err();
        let dropped = metrics.around(&cx, &start, &|| Box::pin(pending::<Result<()>>()));
        timeout(Duration::from_secs(5), dropped).await.unwrap_err();
        let counted: Vec<_> =
            metrics.snapshot().into_iter().map(|series| (series.ended, series.count, series.total.as_secs())).collect();
        let expected = [(Ended::Done, 2, 100_002), (Ended::Failed(Kind::Busy), 1, 0), (Ended::Dropped, 1, 5)];
        assert_eq!(counted, expected);
        assert_eq!(metrics.snapshot()[0].within, [0, 0, 0, 0, 1, 1, 1, 1]);
    }
}
