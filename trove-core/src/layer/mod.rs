//! Layers: behavior that is added around every call to a datastore, of any engine.
//!
//! A [`Layer`] receives each call of a [`Datastore`](crate::datastore::Datastore) and of its
//! abilities, and decides when and how often to pass it on. [`Layered`] is a datastore with a layer
//! around it; [`DriverExt::layer`] wraps all datastores of a [`Driver`](crate::datastore::Driver).
//!
//! | layer | what it does | installed by |
//! |---|---|---|
//! | [`Trace`] | logs calls | the guest agent |
//! | [`Deadline`] | fails calls that take too long | the guest agent |
//! | [`FaultInjector`] | injects failures, delays, duplicates and hangs | tests |
//! | [`Fence`] | rejects superseded owners and reused operation keys | the driver |
//!
//! The table is in order from the outermost to the innermost layer: the trace shows what the caller
//! sees, and a duplicated call passes the fence twice.
//!
//! A custom layer is one method:
//!
//! ```
//! use std::sync::atomic::{AtomicU64, Ordering};
//! use trove_core::{
//!     datastore::Cx,
//!     error::Result,
//!     layer::{CallInfo, Layer, NextCall},
//! };
//!
//! /// Counts failed calls.
//! #[derive(Default)]
//! struct FailureCount(AtomicU64);
//!
//! impl Layer for FailureCount {
//!     async fn around<'a, T: Send + 'a>(
//!         &'a self,
//!         _cx: &'a Cx,
//!         _call: &'a CallInfo<'a>,
//!         next: NextCall<'a, T>,
//!     ) -> Result<T> {
//!         let result = next().await;
//!         self.0.fetch_add(u64::from(result.is_err()), Ordering::Relaxed);
//!         result
//!     }
//! }
//! ```

mod deadline;
mod fault_injection;
mod fence;
mod layered;
mod trace;

use std::{fmt, future::Future};

use futures_util::future::BoxFuture;

pub use deadline::Deadline;
pub use fault_injection::{FaultAction, FaultInjector};
pub use fence::Fence;
pub use layered::{DriverExt, Layered, LayeredDriver};
pub use trace::Trace;

use crate::{datastore::Cx, error::Result};

/// Passes a call on to the inner datastore, once for each time it is invoked.
pub type NextCall<'a, T> = &'a (dyn Fn() -> BoxFuture<'a, Result<T>> + Send + Sync + 'a);

/// Behavior around every call to a datastore.
pub trait Layer: Send + Sync + 'static {
    /// Handles one call, which `next` passes on.
    fn around<'a, T: Send + 'a>(
        &'a self,
        cx: &'a Cx,
        call: &'a CallInfo<'a>,
        next: NextCall<'a, T>,
    ) -> impl Future<Output = Result<T>> + Send + 'a;
}

/// Describes a call to a datastore.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CallInfo<'a> {
    /// The ability and the method: `prepare`, `accounts.create_users`.
    pub name: &'static str,
    /// True if the call changes something, false if it only reads.
    pub changes: bool,
    /// The arguments. Their debug output contains no secret.
    pub arguments: &'a (dyn fmt::Debug + Send + Sync),
}
