//! A case, and how it is run.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, resume_unwind},
    time::Duration,
};

use futures_util::{FutureExt, future::LocalBoxFuture};
use tokio::time::timeout;

use super::Outcome;

/// One requirement on an implementation, checked on a fixture of this type.
pub(super) struct Case<T: ?Sized> {
    /// The name of the function, which states the requirement.
    pub(super) name: &'static str,
    pub(super) run: for<'a> fn(&'a T) -> LocalBoxFuture<'a, ()>,
}

impl<T: ?Sized> Clone for Case<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Case<T> {}

/// Turns async functions into cases.
macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        vec![$($crate::conformance::case::Case { name: stringify!($case), run: |fixture| Box::pin($case(fixture)) }),*]
    };
}
pub(super) use cases;

/// Runs a case. A panic is a failure, and so is exceeding the time limit.
pub(super) async fn run(limit: Duration, case: impl Future<Output = ()>) -> Outcome {
    match timeout(limit, AssertUnwindSafe(case).catch_unwind()).await {
        Ok(Ok(())) => Outcome::Passed,
        Ok(Err(panic)) => outcome_of(&*panic),
        Err(_) => Outcome::Failed(format!("timed out after {} s", limit.as_secs())),
    }
}

/// Skips the running case, which has found that it does not apply to its implementation.
pub(super) fn skip(reason: impl Into<String>) -> ! {
    // Unlike a panic, this does not call the panic hook.
    resume_unwind(Box::new(Skipped(reason.into())))
}

struct Skipped(String);

fn outcome_of(panic: &(dyn Any + Send)) -> Outcome {
    if let Some(Skipped(reason)) = panic.downcast_ref() {
        return Outcome::Skipped(reason.clone());
    }
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    Outcome::Failed(text.unwrap_or_else(|| "panicked without a message".to_owned()))
}
