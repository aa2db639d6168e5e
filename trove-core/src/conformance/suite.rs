//! The parts that the suites of all contracts share.

use std::collections::VecDeque;

use futures_util::future::join_all;
use tokio::{sync::Mutex, time::Instant};

use super::{CaseOutcome, CaseResult, Report, case::Case};

/// The cases of one contract with one implementation. Cases may run concurrently.
pub(super) trait Suite: Send + Sync + 'static {
    /// The data that [`run`](Self::run) needs to run a case.
    type Case: Send + 'static;

    /// Returns all cases, in the order of the report.
    fn cases() -> Vec<SuiteCase<Self::Case>>;

    /// Runs a case and cleans up after it.
    async fn run(&self, case: &Self::Case) -> CaseOutcome;

    /// Releases the resources that cases shared. No case runs afterwards.
    async fn close(&self);
}

/// A case of a suite.
pub(super) struct SuiteCase<C> {
    /// The name with its group, such as `accounts::users::dropping_an_absent_user_is_ok`.
    pub(super) name: String,
    pub(super) coverage: Coverage,
    pub(super) case: C,
}

/// The code that a case exercises. Decides on how many implementations the case has to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coverage {
    /// Code of the single implementation, such as its SQL, its parameters and its upgrades.
    Specific,
    /// Code that implementations usually share, such as fencing in a common framework.
    Common,
}

/// Prefixes the names of cases with the name of their group.
pub(super) fn grouped<T>(group: &'static str, cases: Vec<Case<T>>) -> impl Iterator<Item = SuiteCase<Case<T>>> {
    let named = move |case: Case<T>| (format!("{group}::{}", case.name), case);
    let named = cases.into_iter().map(named);
    named.map(|(name, case)| SuiteCase { name, coverage: Coverage::Specific, case })
}

/// Runs the cases whose names contain `filter`, up to `concurrency` at a time.
pub(super) async fn certify<S: Suite>(subject: &str, suite: &S, filter: &str, concurrency: usize) -> Report {
    let cases = S::cases().into_iter().filter(|case| case.name.contains(filter));
    let queue: VecDeque<_> = cases.enumerate().collect();
    let results = Mutex::new(Vec::with_capacity(queue.len()));
    let queue = Mutex::new(queue);
    let worker = async || {
        loop {
            let Some((position, SuiteCase { name, case, .. })) = queue.lock().await.pop_front() else { break };
            let started = Instant::now();
            let outcome = suite.run(&case).await;
            let result = CaseResult { name, outcome, duration: started.elapsed() };
            match &result.outcome {
                CaseOutcome::Failed(reason) => tracing::error!(case = result.name, reason, "conformance case failed"),
                outcome => tracing::info!(case = result.name, ?outcome, "conformance case finished"),
            }
            results.lock().await.push((position, result));
        }
    };
    join_all((0..concurrency.max(1)).map(|_| worker())).await;
    suite.close().await;
    let mut results = results.into_inner();
    results.sort_by_key(|(position, _)| *position);
    Report { subject: subject.to_owned(), cases: results.into_iter().map(|(_, result)| result).collect() }
}
