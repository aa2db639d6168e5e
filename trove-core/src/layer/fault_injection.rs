use std::{fmt, future::pending, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::watch, time::sleep};

use super::{CallInfo, Layer, NextCall};
use crate::{
    datastore::Cx,
    error::{Error, Result},
};

/// Injects faults: a script decides whether a call proceeds, fails, waits, runs twice or hangs.
///
/// Clones share the script and the call index. A [platform](crate::platform::Platform::with_fault_injection)
/// can share them too.
///
/// ```
/// use trove_core::{datastore::Driver, error::Error, layer::{FaultInjector, DriverExt, FaultAction}};
///
/// fn with_lost_replies(driver: impl Driver) -> impl Driver {
///     let faults = FaultInjector::new(|_, call| match call.name {
///         "start" => FaultAction::FailAfter(Error::unavailable("the reply was lost")),
///         _ => FaultAction::Proceed,
///     });
///     driver.layer(move |_| faults.clone())
/// }
/// ```
#[derive(Clone)]
pub struct FaultInjector {
    shared: Arc<Shared>,
    exempt: Vec<&'static str>,
}

struct Shared {
    script: Mutex<(usize, Script)>,
    crashes: watch::Sender<usize>,
}

type Script = Box<dyn FnMut(usize, &CallInfo<'_>) -> FaultAction + Send>;

/// The action of a script on a call.
#[derive(Clone, Debug)]
pub enum FaultAction {
    /// Runs the call.
    Proceed,
    /// Fails without running the call.
    FailBefore(Error),
    /// Runs the call, and fails.
    FailAfter(Error),
    /// Runs the call after this delay.
    Delay(Duration),
    /// Runs the call twice, like a message that is delivered twice, and returns the first result.
    Twice,
    /// Hangs without running the call.
    HangBefore,
    /// Runs the call, and hangs.
    HangAfter,
}

impl Default for FaultInjector {
    /// Lets all calls proceed until a [script](Self::script) is set.
    fn default() -> Self {
        Self::new(|_, _| FaultAction::Proceed)
    }
}

impl FaultInjector {
    /// Creates an injector whose script decides by zero-based call index and call.
    pub fn new(script: impl FnMut(usize, &CallInfo<'_>) -> FaultAction + Send + 'static) -> Self {
        let shared = Shared { script: Mutex::new((0, Box::new(script))), crashes: watch::Sender::new(0) };
        Self { shared: Arc::new(shared), exempt: Vec::new() }
    }

    /// Exempts calls of this name: they proceed and are not counted.
    #[must_use]
    pub fn exempting(mut self, name: &'static str) -> Self {
        self.exempt.push(name);
        self
    }

    /// Replaces the script. The call index continues.
    pub fn script(&self, script: impl FnMut(usize, &CallInfo<'_>) -> FaultAction + Send + 'static) {
        self.shared.script.lock().1 = Box::new(script);
    }

    /// Returns the number of calls so far.
    pub fn calls(&self) -> usize {
        self.shared.script.lock().0
    }

    /// Resolves when a call hangs, after its effect if it has one.
    pub async fn crashed(&self) {
        // Does not fail: self owns the sender.
        let _ = self.shared.crashes.subscribe().wait_for(|crashes| *crashes > 0).await;
    }

    /// Runs a call as the script decides.
    pub(crate) async fn run<'a, T: Send + 'a>(&self, call: &CallInfo<'_>, next: NextCall<'a, T>) -> Result<T> {
        match self.decide(call) {
            FaultAction::Proceed => next().await,
            FaultAction::FailBefore(error) => Err(error),
            FaultAction::FailAfter(error) => next().await.and(Err(error)),
            FaultAction::Delay(pause) => {
                sleep(pause).await;
                next().await
            }
            FaultAction::Twice => {
                let first = next().await;
                let _ = next().await;
                first
            }
            FaultAction::HangBefore => self.crash().await,
            FaultAction::HangAfter => {
                let _ = next().await;
                self.crash().await
            }
        }
    }

    fn decide(&self, call: &CallInfo<'_>) -> FaultAction {
        if self.exempt.contains(&call.name) {
            return FaultAction::Proceed;
        }
        let mut script = self.shared.script.lock();
        let number = script.0;
        script.0 += 1;
        (script.1)(number, call)
    }

    async fn crash<T>(&self) -> T {
        self.shared.crashes.send_modify(|crashes| *crashes += 1);
        pending().await
    }
}

impl Layer for FaultInjector {
    async fn around<'a, T: Send + 'a>(
        &'a self,
        _cx: &'a Cx,
        call: &'a CallInfo<'a>,
        next: NextCall<'a, T>,
    ) -> Result<T> {
        self.run(call, next).await
    }
}

impl fmt::Debug for FaultInjector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultInjector").field("calls", &self.calls()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::{error::Kind, id::OperationId};

    const START: CallInfo<'_> = CallInfo { name: "start", changes: true, arguments: &() };

    /// Returns the result of a call, if it ends within a minute, and how often it ran.
    async fn outcome(action: FaultAction) -> (Option<Result<usize>>, usize) {
        let faults = FaultInjector::new(move |_, _| action.clone());
        let (cx, done) = (Cx::new(OperationId::new_v4(), 1), AtomicUsize::new(0));
        let next = || Box::pin(async { Ok(done.fetch_add(1, Ordering::Relaxed)) }) as _;
        let result = timeout(Duration::from_secs(60), faults.around(&cx, &START, &next)).await;
        let crashed = timeout(Duration::ZERO, faults.crashed()).await.is_ok();
        assert_eq!(crashed, result.is_err(), "crashed resolves if and only if the call hangs");
        (result.ok(), done.load(Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn faults_apply_before_or_after_the_effect() {
        let error = || Error::busy("busy");
        let kind = |result: Option<Result<usize>>| result.unwrap().unwrap_err().kind();
        let (result, done) = outcome(FaultAction::FailBefore(error())).await;
        assert_eq!((kind(result), done), (Kind::Busy, 0));
        let (result, done) = outcome(FaultAction::FailAfter(error())).await;
        assert_eq!((kind(result), done), (Kind::Busy, 1));
        let begun = Instant::now();
        let (result, done) = outcome(FaultAction::Delay(Duration::from_secs(9))).await;
        assert_eq!((result.unwrap().unwrap(), done, begun.elapsed().as_secs()), (0, 1, 9));
        let (result, done) = outcome(FaultAction::Twice).await;
        assert_eq!((result.unwrap().unwrap(), done), (0, 2));
        assert!(matches!(outcome(FaultAction::HangBefore).await, (None, 0)));
        assert!(matches!(outcome(FaultAction::HangAfter).await, (None, 1)));
    }

    #[tokio::test]
    async fn clones_share_the_script_and_the_count_and_exempt_calls() {
        let faults = FaultInjector::default().exempting("observe");
        let (clone, cx) = (faults.clone(), Cx::new(OperationId::new_v4(), 1));
        let call = async |name| {
            let call = CallInfo { name, ..START };
            clone.around(&cx, &call, &|| Box::pin(async { Ok(()) })).await
        };
        faults.script(
            |number, _| if number == 1 { FaultAction::FailBefore(Error::busy("")) } else { FaultAction::Proceed },
        );
        for (name, fine) in [("observe", true), ("start", true), ("observe", true), ("stop", false), ("stop", true)] {
            assert_eq!(call(name).await.is_ok(), fine);
        }
        assert_eq!(faults.calls(), 3);
    }
}
