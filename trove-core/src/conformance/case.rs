//! Test cases and their execution.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, resume_unwind},
    time::Duration,
};

use futures_util::{FutureExt, future::LocalBoxFuture};
use tokio::time::timeout;

use super::CaseOutcome;

/// A test of one requirement on an implementation, run with a fixture of type `T`.
pub(super) struct Case<T: ?Sized> {
    /// The name of the function. States the requirement.
    pub(super) name: &'static str,
    pub(super) run: for<'a> fn(&'a T) -> LocalBoxFuture<'a, ()>,
}

impl<T: ?Sized> Clone for Case<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Case<T> {}

/// Lists async functions as cases.
macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        vec![$($crate::conformance::case::Case { name: stringify!($case), run: |fixture| Box::pin($case(fixture)) }),*]
    };
}
pub(super) use cases;

/// Runs a case. It fails if it panics or exceeds the time limit.
pub(super) async fn run(limit: Duration, case: impl Future<Output = ()>) -> CaseOutcome {
    match timeout(limit, AssertUnwindSafe(case).catch_unwind()).await {
        Ok(Ok(())) => CaseOutcome::Passed,
        Ok(Err(panic)) => outcome_of(&*panic),
        Err(_) => CaseOutcome::Failed(format!("timed out after {} s", limit.as_secs())),
    }
}

/// Skips the running case, because it does not apply to the implementation or the testbed.
pub(super) fn skip(reason: impl Into<String>) -> ! {
    // Unlike a panic, this does not call the panic hook.
    resume_unwind(Box::new(Skipped(reason.into())))
}

struct Skipped(String);

fn outcome_of(panic: &(dyn Any + Send)) -> CaseOutcome {
    if let Some(Skipped(reason)) = panic.downcast_ref() {
        return CaseOutcome::Skipped(reason.clone());
    }
    let message = panic.downcast_ref::<String>().cloned();
    let message = message.or_else(|| panic.downcast_ref::<&str>().map(|message| (*message).to_owned()));
    CaseOutcome::Failed(message.unwrap_or_else(|| "panicked without a message".to_owned()))
}
