//! Programs that embed the database service.
//!
//! - `quickstart` creates, uses, changes and deletes an instance and reports each step.
//!   `cargo xtask quickstart` installs its prerequisites and runs it.
//! - `trove-guestagent` runs the guest agent of one instance as a separate process, for a service
//!   that reaches its guests over RabbitMQ.

/// The README, to compile its examples.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
