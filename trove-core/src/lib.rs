//! stub
mod conductor;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod control;
pub mod datastore;
pub mod error;
pub mod events;
pub mod flow;
pub mod guest;
pub mod id;
pub mod lifecycle;
pub mod model;
pub mod platform;
pub mod secret;
pub mod store;
pub mod taskmanager;
pub mod time;

pub use control::Trove;
