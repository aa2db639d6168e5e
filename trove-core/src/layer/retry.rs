use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Call, Layer, Next};
use crate::{
    datastore::Cx,
    error::{Effect, Error, Result, Retry as Advice},
};

/// Makes a call again where its error says that this may help.
///
/// How often and for how long is bounded; the pauses grow, and are spread by chance so that many callers do not come
/// back at once. A call that may have had its effect is made again only where [that does no harm](Call::repeatable). A
/// caller that [cancels](Cx::cancelled) is not kept waiting. The error that is returned in the end is the last one, and
/// tells in its context how many tries there were.
///
/// This is for whoever calls a driver directly. The operations of this library try again by themselves, and remember it
/// across restarts.
///
/// ```
/// use std::time::Duration;
/// use trove_core::{datastore::Driver, layer::Retry};
///
/// fn patient(driver: impl Driver) -> impl Driver {
///     driver.layer(|_| Retry::default().tries(6).within(Duration::from_secs(30)))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Retry {
    tries: u32,
    first: Duration,
    longest: Duration,
    within: Duration,
}

impl Default for Retry {
    /// Four tries within a minute, with pauses from 200 ms to 5 s.
    fn default() -> Self {
        Self {
            tries: 4,
            first: Duration::from_millis(200),
            longest: Duration::from_secs(5),
            within: Duration::from_secs(60),
        }
    }
}

impl Retry {
    /// Tries at most so many times in all.
    #[must_use]
    pub fn tries(mut self, tries: u32) -> Self {
        self.tries = tries;
        self
    }

    /// Pauses about so long after the first failure, twice as long after each further one, and never longer than
    /// `longest`, unless an error says [`After`](Advice::After).
    #[must_use]
    pub fn pauses(mut self, first: Duration, longest: Duration) -> Self {
        (self.first, self.longest) = (first, longest);
        self
    }

    /// Begins no try later than this after the first. It does not break off one that runs, as
    /// [`Deadline`](super::Deadline) does.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.within = limit;
        self
    }

    /// How long to pause after this many failures, of which this is the last; `None` to give up. `spread` is from 0 to 1.
    fn pause(&self, call: &Call<'_>, error: &Error, failures: u32, elapsed: Duration, spread: f64) -> Option<Duration> {
        let harmless = call.repeatable || error.effect() == Effect::None;
        if failures >= self.tries || !harmless {
            return None;
        }
        let grown = self.first.saturating_mul(2_u32.saturating_pow(failures - 1)).min(self.longest);
        let spread = grown.mul_f64(0.5 + spread / 2.0);
        let pause = match error.retry() {
            Advice::Never => return None,
            Advice::Same => spread,
            Advice::After(least) => least.saturating_add(spread),
        };
        (elapsed.saturating_add(pause) <= self.within).then_some(pause)
    }
}

impl Layer for Retry {
    async fn around<'a, T: Send + 'a>(&'a self, cx: &'a Cx, call: &'a Call<'a>, next: Next<'a, T>) -> Result<T> {
        let begun = Instant::now();
        let mut failures = 0;
        loop {
            let error = match next().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            failures += 1;
            let Some(pause) = self.pause(call, &error, failures, begun.elapsed(), chance()) else {
                return Err(if failures > 1 { error.with("tries", failures) } else { error });
            };
            tokio::select! {
                biased;
                () = cx.cancelled() => {
                    let cancelled = Error::cancelled("the operation was cancelled before another try");
                    return Err(cancelled.having(error.effect()).because(error));
                }
                () = sleep(pause) => {}
            }
        }
    }
}

/// From 0 to 1, as the operating system has it.
fn chance() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{error::Kind, id::OperationId};

    const SAFE: Call<'_> = Call { name: "start", changes: true, repeatable: true, arguments: &() };
    const ONCE: Call<'_> = Call { name: "accounts.create_users", changes: true, repeatable: false, arguments: &() };

    fn cx() -> Cx {
        Cx::new(OperationId::new_v4(), 1)
    }

    /// Makes a call that fails like this so many times, and tells how it ended and how often it was made.
    async fn made(retry: &Retry, call: &Call<'_>, error: Error, failures: u32) -> (Result<()>, u32) {
        let (calls, cx) = (AtomicU32::new(0), cx());
        let next = || {
            let fails = calls.fetch_add(1, Ordering::Relaxed) < failures;
            let error = error.clone();
            Box::pin(async move { if fails { Err(error) } else { Ok(()) } }) as _
        };
        let done = retry.around(&cx, call, &next).await;
        (done, calls.load(Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_again_and_what_cannot_is_not() {
        let retry = Retry::default();
        let (done, calls) = made(&retry, &SAFE, Error::unavailable("away"), 3).await;
        assert!(done.is_ok() && calls == 4);
        let (done, calls) = made(&retry, &SAFE, Error::unavailable("away"), 99).await;
        let error = done.unwrap_err();
        assert_eq!((error.kind(), calls), (Kind::Unavailable, 4));
        assert!(error.context().any(|fact| fact == ("tries", "4")), "{error:?}");
        assert_eq!(made(&retry, &SAFE, Error::invalid("wrong"), 99).await.1, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_have_happened_is_repeated_only_where_that_does_no_harm() {
        let retry = Retry::default();
        assert_eq!(made(&retry, &SAFE, Error::timeout("late"), 1).await.1, 2);
        assert_eq!(made(&retry, &ONCE, Error::timeout("late"), 1).await.1, 1);
        assert_eq!(made(&retry, &ONCE, Error::unavailable("away"), 1).await.1, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn all_tries_begin_within_the_limit_of_time() {
        let retry = Retry::default().tries(1000).within(Duration::from_secs(30));
        let begun = Instant::now();
        let (done, calls) = made(&retry, &SAFE, Error::unavailable("away"), u32::MAX).await;
        assert!(done.is_err() && calls < 20 && begun.elapsed() <= Duration::from_secs(30));
        let far = Error::unavailable("away").retrying(Advice::After(Duration::from_secs(31)));
        assert_eq!(made(&retry, &SAFE, far, 99).await.1, 1);
        let near = Error::unavailable("away").retrying(Advice::After(Duration::from_secs(20)));
        let begun = Instant::now();
        assert_eq!(made(&retry, &SAFE, near, 99).await.1, 2);
        assert!(begun.elapsed() >= Duration::from_secs(20));
    }

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let retry = Retry::default().tries(9).pauses(Duration::from_secs(1), Duration::from_secs(4));
        let error = Error::unavailable("away");
        let pauses = [1, 2, 3, 4].map(|failures| retry.pause(&SAFE, &error, failures, Duration::ZERO, 1.0).unwrap());
        assert_eq!(pauses, [1, 2, 4, 4].map(Duration::from_secs));
        let least = retry.pause(&SAFE, &error, 1, Duration::ZERO, 0.0).unwrap();
        assert_eq!(least, Duration::from_millis(500));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_cancels_is_not_kept_waiting() {
        let (cancel, call) = (CancellationToken::new(), SAFE);
        let cx = cx().with_cancel(cancel.clone());
        let retry = Retry::default().pauses(Duration::from_secs(50), Duration::from_secs(50));
        let next = || {
            cancel.cancel();
            Box::pin(async { Err::<(), _>(Error::timeout("late")) }) as _
        };
        let begun = Instant::now();
        let error = retry.around(&cx, &call, &next).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (Kind::Cancelled, Effect::Maybe));
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
