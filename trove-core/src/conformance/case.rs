//! A case, and how it is run.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, resume_unwind},
    time::Duration,
};

use futures_util::{FutureExt, future::LocalBoxFuture};
use tokio::time::{Instant, timeout};

use super::{Entry, Outcome};

/// One thing that a subject of this type has to do right.
pub(super) struct Case<T: ?Sized> {
    /// The function's own: it says what is right.
    pub(super) name: &'static str,
    pub(super) run: for<'a> fn(&'a T) -> LocalBoxFuture<'a, ()>,
}

impl<T: ?Sized> Clone for Case<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Case<T> {}

/// The cases that these functions are.
macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        vec![$($crate::conformance::case::Case { name: stringify!($case), run: |trial| Box::pin($case(trial)) }),*]
    };
}
pub(super) use cases;

/// Runs a case. A panic is a failure, and so is not to end within the limit.
pub(super) async fn run(name: String, limit: Duration, case: impl Future<Output = ()>) -> Entry {
    let begun = Instant::now();
    let outcome = match timeout(limit, AssertUnwindSafe(case).catch_unwind()).await {
        Ok(Ok(())) => Outcome::Passed,
        Ok(Err(panic)) => told(&*panic),
        Err(_) => Outcome::Failed(format!("it did not end within {} s", limit.as_secs())),
    };
    Entry { name, outcome, took: begun.elapsed() }
}

/// Leaves a case that does not apply to its subject, which was only seen on the way.
pub(super) fn skip(why: impl Into<String>) -> ! {
    // Not a panic: nothing is to be printed.
    resume_unwind(Box::new(Skip(why.into())))
}

struct Skip(String);

fn told(panic: &(dyn Any + Send)) -> Outcome {
    if let Some(Skip(why)) = panic.downcast_ref() {
        return Outcome::Skipped(why.clone());
    }
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    Outcome::Failed(text.unwrap_or_else(|| "it panicked".to_owned()))
}
