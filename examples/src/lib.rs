//! Programs that embed the database service.
//!
//! - `quickstart` takes an instance through its lifecycle and reports each step; `cargo xtask
//!   quickstart` sets up what it needs and runs it.
//! - `trove-guestagent`, a package of its own in `guestagent/`, is the guest agent of one instance
//!   as a process, for a service that calls its guests over RabbitMQ.

/// The README, to compile its examples.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
