//! The clock. Code that needs the time receives a [`Clock`], so that tests can control it.

use std::{sync::Arc, time::Duration};

pub use jiff::Timestamp;
use parking_lot::Mutex;

/// A source of the current time. Cheap to clone; the clones of a manual clock share its time.
///
/// ```
/// use std::time::Duration;
/// use trove_core::time::{Clock, Timestamp, elapsed};
///
/// let clock = Clock::manual(Timestamp::UNIX_EPOCH);
/// clock.advance(Duration::from_secs(30));
/// assert_eq!(elapsed(Timestamp::UNIX_EPOCH, clock.now()), Duration::from_secs(30));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<Mutex<Timestamp>>>);

impl Clock {
    /// Returns the clock of the operating system.
    pub fn system() -> Self {
        Self(None)
    }

    /// Returns a clock that stands still until it is [advanced](Self::advance).
    pub fn manual(start: Timestamp) -> Self {
        Self(Some(Arc::new(Mutex::new(start))))
    }

    /// Returns the current time.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            None => Timestamp::now(),
            Some(time) => *time.lock(),
        }
    }

    /// Advances a manual clock; has no effect on the system clock.
    pub fn advance(&self, by: Duration) {
        if let Some(time) = &self.0 {
            let mut time = time.lock();
            *time = after(*time, by);
        }
    }
}

/// Returns the time `by` after `at`, saturating at [`Timestamp::MAX`].
pub fn after(at: Timestamp, by: Duration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// Returns the duration from `since` to `now`; zero if `since` is later.
pub fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}
