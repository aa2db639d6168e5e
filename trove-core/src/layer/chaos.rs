use std::{
    fmt,
    future::pending,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::sleep};

use super::{Call, Layer, Next};
use crate::{
    datastore::Cx,
    error::{Error, Result},
};

/// Makes calls fail, wait, happen twice or never return, as a script or a seed decides.
///
/// Clones share the script and the count of calls. A [platform](crate::platform::Platform::with_chaos) may be put
/// under the same.
///
/// ```
/// use trove_core::{datastore::Driver, error::Error, layer::{Chaos, Verdict}};
///
/// fn troubled(driver: impl Driver) -> impl Driver {
///     let chaos = Chaos::new(|_, call| match call.name {
///         "start" => Verdict::FailAfter(Error::unavailable("the answer was lost")),
///         _ => Verdict::Proceed,
///     });
///     driver.layer(move |_| chaos.clone())
/// }
/// ```
#[derive(Clone)]
pub struct Chaos {
    shared: Arc<Shared>,
    spared: Vec<&'static str>,
}

struct Shared {
    script: Mutex<(usize, Script)>,
    crashes: watch::Sender<usize>,
}

type Script = Box<dyn FnMut(usize, &Call<'_>) -> Verdict + Send>;

/// What becomes of a call.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It does what it should.
    Proceed,
    /// It fails and does nothing.
    FailBefore(Error),
    /// It does what it should and fails all the same.
    FailAfter(Error),
    /// It does what it should after this long.
    Delay(Duration),
    /// It does what it should, and once more, as a message that was delivered twice. The caller hears of the first.
    Twice,
    /// It never returns and does nothing.
    HangBefore,
    /// It does what it should and never returns.
    HangAfter,
}

/// How many of a thousand calls meet each verdict; the rest proceed.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Odds {
    /// Of [`Verdict::FailBefore`].
    pub fail_before: u64,
    /// Of [`Verdict::FailAfter`].
    pub fail_after: u64,
    /// Of [`Verdict::Delay`].
    pub delay: u64,
    /// The longest delay.
    pub longest_delay: Duration,
    /// Of [`Verdict::Twice`].
    pub twice: u64,
    /// Of [`Verdict::HangBefore`].
    pub hang_before: u64,
    /// Of [`Verdict::HangAfter`].
    pub hang_after: u64,
}

impl Default for Odds {
    /// Fifty each, and none that never returns. Delays of up to a second.
    fn default() -> Self {
        Self {
            fail_before: 50,
            fail_after: 50,
            delay: 50,
            longest_delay: Duration::from_secs(1),
            twice: 50,
            hang_before: 0,
            hang_after: 0,
        }
    }
}

impl Default for Chaos {
    /// Lets all calls proceed until it has a [script](Self::script).
    fn default() -> Self {
        Self::new(|_, _| Verdict::Proceed)
    }
}

impl Chaos {
    /// Decides what becomes of each call by the how-manieth it is, from 0, and what it is.
    pub fn new(script: impl FnMut(usize, &Call<'_>) -> Verdict + Send + 'static) -> Self {
        let shared = Shared { script: Mutex::new((0, Box::new(script))), crashes: watch::Sender::new(0) };
        Self { shared: Arc::new(shared), spared: Vec::new() }
    }

    /// Decides by chance. The same seed decides the same for the same row of calls. What fails is
    /// [`Unavailable`](crate::error::Kind::Unavailable) or, after its effect, [`Timeout`](crate::error::Kind::Timeout).
    pub fn seeded(seed: u64, odds: Odds) -> Self {
        Self::new(move |number, _| odds.draw(seed, number))
    }

    /// Leaves the calls of this name alone and does not count them.
    #[must_use]
    pub fn sparing(mut self, name: &'static str) -> Self {
        self.spared.push(name);
        self
    }

    /// Decides like this from now on. The count goes on.
    pub fn script(&self, script: impl FnMut(usize, &Call<'_>) -> Verdict + Send + 'static) {
        self.shared.script.lock().unwrap_or_else(PoisonError::into_inner).1 = Box::new(script);
    }

    /// How many calls there were.
    pub fn calls(&self) -> usize {
        self.shared.script.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Ends when a call has come to where it never returns, with its effect where it was to have it.
    pub async fn crashed(&self) {
        // The sender is kept by this.
        let _ = self.shared.crashes.subscribe().wait_for(|crashes| *crashes > 0).await;
    }

    /// Makes a call, as is decided.
    pub(crate) async fn run<'a, T: Send + 'a>(&self, call: &Call<'_>, next: Next<'a, T>) -> Result<T> {
        match self.decide(call) {
            Verdict::Proceed => next().await,
            Verdict::FailBefore(error) => Err(error),
            Verdict::FailAfter(error) => next().await.and(Err(error)),
            Verdict::Delay(pause) => {
                sleep(pause).await;
                next().await
            }
            Verdict::Twice => {
                let first = next().await;
                // Nobody hears how the second went.
                let _ = next().await;
                first
            }
            Verdict::HangBefore => self.crash().await,
            Verdict::HangAfter => {
                let _ = next().await;
                self.crash().await
            }
        }
    }

    fn decide(&self, call: &Call<'_>) -> Verdict {
        if self.spared.contains(&call.name) {
            return Verdict::Proceed;
        }
        let mut script = self.shared.script.lock().unwrap_or_else(PoisonError::into_inner);
        let number = script.0;
        script.0 += 1;
        (script.1)(number, call)
    }

    async fn crash<T>(&self) -> T {
        self.shared.crashes.send_modify(|crashes| *crashes += 1);
        pending().await
    }
}

impl Layer for Chaos {
    async fn around<'a, T: Send + 'a>(&'a self, _cx: &'a Cx, call: &'a Call<'a>, next: Next<'a, T>) -> Result<T> {
        self.run(call, next).await
    }
}

impl fmt::Debug for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chaos").field("calls", &self.calls()).finish_non_exhaustive()
    }
}

impl Odds {
    fn draw(&self, seed: u64, number: usize) -> Verdict {
        let random = scramble(seed ^ scramble(number as u64));
        let away = || Error::unavailable("the call was lost");
        let late = || Error::timeout("the answer was lost");
        let nanoseconds = u64::try_from(self.longest_delay.as_nanos()).unwrap_or(u64::MAX);
        let delay = Duration::from_nanos(scramble(random) % nanoseconds.max(1));
        let shares = [
            (self.fail_before, Verdict::FailBefore(away())),
            (self.fail_after, Verdict::FailAfter(late())),
            (self.delay, Verdict::Delay(delay)),
            (self.twice, Verdict::Twice),
            (self.hang_before, Verdict::HangBefore),
            (self.hang_after, Verdict::HangAfter),
        ];
        let mut drawn = random % 1000;
        for (share, verdict) in shares {
            if drawn < share {
                return verdict;
            }
            drawn -= share;
        }
        Verdict::Proceed
    }
}

/// Makes of a number one that looks like chance (SplitMix64).
fn scramble(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::{error::Kind, id::OperationId};

    const START: Call<'_> = Call { name: "start", changes: true, repeatable: true, arguments: &() };

    /// Makes a call of this fate; tells what the caller heard, if anything within a minute, and how often it was done.
    async fn fate(verdict: Verdict) -> (Option<Result<usize>>, usize) {
        let chaos = Chaos::new(move |_, _| verdict.clone());
        let (cx, done) = (Cx::new(OperationId::new_v4(), 1), AtomicUsize::new(0));
        let next = || Box::pin(async { Ok(done.fetch_add(1, Ordering::Relaxed)) }) as _;
        let heard = timeout(Duration::from_secs(60), chaos.around(&cx, &START, &next)).await;
        let crashed = timeout(Duration::ZERO, chaos.crashed()).await.is_ok();
        assert_eq!(crashed, heard.is_err(), "a crash is told of");
        (heard.ok(), done.load(Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_meets_its_fate_before_or_after_its_effect() {
        let error = || Error::busy("told so");
        let kind = |heard: Option<Result<usize>>| heard.unwrap().unwrap_err().kind();
        let (heard, done) = fate(Verdict::FailBefore(error())).await;
        assert_eq!((kind(heard), done), (Kind::Busy, 0));
        let (heard, done) = fate(Verdict::FailAfter(error())).await;
        assert_eq!((kind(heard), done), (Kind::Busy, 1));
        let begun = Instant::now();
        let (heard, done) = fate(Verdict::Delay(Duration::from_secs(9))).await;
        assert_eq!((heard.unwrap().unwrap(), done, begun.elapsed().as_secs()), (0, 1, 9));
        let (heard, done) = fate(Verdict::Twice).await;
        assert_eq!((heard.unwrap().unwrap(), done), (0, 2));
        assert!(matches!(fate(Verdict::HangBefore).await, (None, 0)));
        assert!(matches!(fate(Verdict::HangAfter).await, (None, 1)));
    }

    #[tokio::test]
    async fn clones_share_the_script_and_the_count_and_spare_what_they_are_told_to() {
        let chaos = Chaos::default().sparing("observe");
        let (clone, cx) = (chaos.clone(), Cx::new(OperationId::new_v4(), 1));
        let call = async |name| {
            let call = Call { name, ..START };
            clone.around(&cx, &call, &|| Box::pin(async { Ok(()) })).await
        };
        chaos.script(|number, _| if number == 1 { Verdict::FailBefore(Error::busy("")) } else { Verdict::Proceed });
        for (name, fine) in [("observe", true), ("start", true), ("observe", true), ("stop", false), ("stop", true)] {
            assert_eq!(call(name).await.is_ok(), fine);
        }
        assert_eq!(chaos.calls(), 3);
    }

    #[test]
    fn a_seed_decides_the_same_again_and_by_the_odds() {
        let odds = Odds { hang_before: 100, ..Odds::default() };
        let row = |seed| (0..10_000).map(|number| format!("{:?}", odds.draw(seed, number))).collect::<Vec<_>>();
        assert_eq!(row(7), row(7));
        assert_ne!(row(7), row(8));
        let count = |name: &str| row(7).iter().filter(|verdict| verdict.starts_with(name)).count();
        for (name, expected) in [("Proceed", 7000), ("FailAfter", 500), ("HangBefore", 1000), ("HangAfter", 0)] {
            assert!(count(name).abs_diff(expected) <= expected / 5, "{name}: {}", count(name));
        }
    }
}
