//! Conformance suites for implementers of the contracts, and in-memory implementations.
//!
//! | contract | suite | implementations |
//! |---|---|---|
//! | [`Driver`] | [`driver`] | [`memory`], and the drivers of `trove-drivers` |
//! | [`Platform`] | [`platform`] | [`memory`], and the local platform of `trove-drivers` |
//! | [`Store`] | [`store`] | SQLite and PostgreSQL |
//! | [`Transport`] | [`transport`] | [`InProcess`], and RabbitMQ |
//!
//! A suite consists of cases. Each case tests one requirement of the contract and is named after
//! it. The implementer provides a testbed: the implementation under test, and the means to look
//! at it from outside and to inject faults.
//!
//! There are two ways to run a suite. A [`Harness`] turns every case into a test, which can be
//! listed, filtered and run like any other test; use it for the test target of an implementation.
//! The `certify` function of a suite runs the cases within a test or a program and returns a
//! [`Report`].
//!
//! Start with the page of [`driver`] to certify a driver.
//!
//! [`Driver`]: crate::datastore::Driver
//! [`Platform`]: crate::platform::Platform
//! [`Store`]: crate::store::Store
//! [`Transport`]: crate::rpc::Transport
//! [`InProcess`]: crate::rpc::InProcess

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a case fails by panicking")]

mod cancellation_points;
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
pub use report::{CaseOutcome, CaseResult, Report};
pub use tier::Tier;
