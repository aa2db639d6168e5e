//! Suites that implementations of the contracts run, and implementations in memory to run everything else on.
//!
//! | contract | suite | its implementations here |
//! |---|---|---|
//! | [`Driver`](crate::datastore::Driver) | [`driver`]: what a driver's author runs, in memory or on real servers | [`memory`], and the drivers of `trove-drivers` |
//! | [`Platform`](crate::platform::Platform) | [`platform`]: what a platform's author runs | [`memory`], and the local platform of `trove-drivers` |
//! | [`Store`](crate::store::Store) | [`store`] | SQLite and PostgreSQL |
//! | [`Transport`](crate::rpc::Transport) | [`transport`] | [`InProcess`](crate::rpc::InProcess) |
//!
//! A [`Harness`] makes each case a test of its own, so that cases are listed, filtered and counted as any other test. The
//! `certify` function of a suite runs it as a whole and returns a [`Report`].

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a case fails by panicking")]

mod cancellation;
mod case;
pub mod driver;
mod harness;
pub mod memory;
pub mod platform;
mod report;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod store;
mod suite;
mod tier;
pub mod transport;

pub use harness::{Harness, Selection};
pub use report::{CaseResult, Outcome, Report};
pub use tier::Tier;
