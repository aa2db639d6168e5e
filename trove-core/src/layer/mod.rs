//! Layers: what is done around every call to a datastore, whichever engine it is of.
//!
//! A [`Layer`] is asked around each call of a [`Datastore`](crate::datastore::Datastore) and of its
//! abilities, and goes on with it: once, more than once, later or not at all. [`Layered`] is a datastore with a layer around it,
//! and a [`Driver`](crate::datastore::Driver) whose datastores shall all have one is wrapped by
//! [`Driver::layer`](crate::datastore::Driver::layer).
//!
//! | layer | what it does |
//! |---|---|
//! | [`Fence`] | refuses former owners, and keys that were used for something else; drivers carry it themselves |
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

mod fence;
mod layered;

use std::{fmt, future::Future};

use futures_util::future::BoxFuture;

pub use fence::Fence;
pub use layered::{Layered, LayeredDriver};

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
    /// What it is asked for. Holds no secret: they do not print.
    pub arguments: &'a (dyn fmt::Debug + Send + Sync),
}
