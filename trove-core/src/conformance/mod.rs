//! Suites that implementations of the contracts run, and implementations in memory to run everything else on.
//!
//! [`store::suite`] is run on SQLite and PostgreSQL. [`memory`] has a platform and a datastore that need nothing but
//! this process, can be told to fail, and are models to read before writing real ones.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a suite says what is wrong by panicking")]

pub mod memory;
pub mod store;
