//! Suites that implementations of the contracts run, and implementations in memory to run everything else on.
//!
//! | contract | suite | its implementations here |
//! |---|---|---|
//! | [`Driver`](crate::datastore::Driver) | [`driver`]: what a driver's author runs, in memory or on real servers | [`memory`], and the drivers of `trove-drivers` |
//! | [`Platform`](crate::platform::Platform) | [`platform`]: what a platform's author runs | [`memory`], and the local platform of `trove-drivers` |
//! | [`Store`](crate::store::Store) | [`store`] | SQLite and PostgreSQL |
//! | [`Transport`](crate::rpc::Transport) | [`transport`] | [`InProcess`](crate::rpc::InProcess) |
//!
//! A suite returns a [`Report`]: a table for people, JSON for machines and an exit status for CI. Its cases are
//! functions with names that say what they prove; adding one is writing it and naming it in a list.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a case says what is wrong by panicking")]

mod case;
pub mod driver;
mod drops;
pub mod memory;
pub mod platform;
mod report;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod store;
pub mod transport;

pub use report::{Entry, Outcome, Report};
