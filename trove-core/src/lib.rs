//! stub
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod conductor;
#[cfg(all(feature = "conformance", any(feature = "sqlite", feature = "postgres")))]
pub mod conformance;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod control;
pub mod datastore;
pub mod error;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod events;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod flow;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod guest;
pub mod id;
pub mod lifecycle;
pub mod model;
pub mod platform;
pub mod secret;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod store;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod taskmanager;
pub mod time;

#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use control::Trove;
