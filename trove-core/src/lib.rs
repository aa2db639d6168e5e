//! stub
pub mod datastore;
pub mod error;
pub mod id;
pub mod lifecycle;
pub mod model;
pub mod platform;
pub mod secret;
pub mod time;
