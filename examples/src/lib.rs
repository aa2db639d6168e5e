//! Programs that embed the database service.
//!
//! - `quickstart` takes an instance through its life and tells what it does; `cargo xtask quickstart` sets up what it
//!   needs and runs it.
//! - `trove-guestagent` is the guest agent of one instance as a process of its own, for a service that calls its guests over
//!   RabbitMQ.

/// The README, whose examples are compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
