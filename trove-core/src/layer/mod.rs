//! Layers: what is done around every call to a datastore, whichever engine it is of.
//!
//! A [`Layer`] is asked around each call of a [`Datastore`](crate::datastore::Datastore) and of its
//! abilities, and goes on with it: once, more than once, later or not at all. [`Layered`] is a datastore with a layer around it,
//! and a [`Driver`](crate::datastore::Driver) whose datastores shall all have one is wrapped by
//! [`Driver::layer`](crate::datastore::Driver::layer).
//!
//! | layer | what it does |
//! |---|---|
//! | [`Trace`] | tells of calls in the log |
//! | [`Metrics`] | counts calls, how they ended and how long they took |
//! | [`Deadline`] | ends calls that take too long; the guest agent has it around every driver |
//! | [`Chaos`] | makes calls fail, wait, happen twice or never return, for tests |
//! | [`Fence`] | refuses former owners, and keys that were used for something else; drivers carry it themselves |
//!
//! This is also the order in which they make sense, from the outermost to the innermost: what is told and counted is what
//! the caller sees, each try has a limit of its own, and what is delivered twice meets the fence twice.
//!
//! ```
//! use trove_core::{datastore::Driver, layer::{Deadline, Metrics, Trace}};
//!
//! fn observed(driver: impl Driver, metrics: Metrics) -> impl Driver {
//!     let driver = driver.layer(|_| Deadline::default());
//!     driver.layer(move |_| metrics.clone()).layer(|host| Trace::new(host.instance))
//! }
//! ```
//!
//! A layer of one's own is one method:
//!
//! ```
//! use std::sync::atomic::{AtomicU64, Ordering};
//! use trove_core::{
//!     datastore::Cx,
//!     error::Result,
//!     layer::{Call, Layer, Next},
//! };
//!
//! /// Counts the calls that failed.
//! #[derive(Default)]
//! struct Failures(AtomicU64);
//!
//! impl Layer for Failures {
//!     async fn around<'a, T: Send + 'a>(&'a self, _cx: &'a Cx, _call: &'a Call<'a>, next: Next<'a, T>) -> Result<T> {
//!         let done = next().await;
//!         self.0.fetch_add(u64::from(done.is_err()), Ordering::Relaxed);
//!         done
//!     }
//! }
//! ```

mod chaos;
mod deadline;
mod fence;
mod layered;
mod metrics;
mod trace;

use std::{fmt, future::Future};

use futures_util::future::BoxFuture;

pub use chaos::{Chaos, Odds, Verdict};
pub use deadline::Deadline;
pub use fence::Fence;
pub use layered::{Layered, LayeredDriver};
pub use metrics::{Ended, Metrics, Series};
pub use trace::Trace;

use crate::{datastore::Cx, error::Result};

/// Makes the call; each time it is called, once more.
pub type Next<'a, T> = &'a (dyn Fn() -> BoxFuture<'a, Result<T>> + Send + Sync + 'a);

/// What is done around every call to a datastore.
pub trait Layer: Send + Sync + 'static {
    /// Does the call, in its own way, through `next`.
    fn around<'a, T: Send + 'a>(
        &'a self,
        cx: &'a Cx,
        call: &'a Call<'a>,
        next: Next<'a, T>,
    ) -> impl Future<Output = Result<T>> + Send + 'a;
}

/// A call to a datastore: which, and with what.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Call<'a> {
    /// The ability and the method: `prepare`, `accounts.create_users`.
    pub name: &'static str,
    /// True where it changes something; false where it only looks.
    pub changes: bool,
    /// True where making it twice ends as once would; false where the second would find the effect of the first in its
    /// way, as that of `accounts.create_users` does.
    pub repeatable: bool,
    /// What it is asked for. Holds no secret: they do not print.
    pub arguments: &'a (dyn fmt::Debug + Send + Sync),
}
