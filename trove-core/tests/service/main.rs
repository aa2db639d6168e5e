//! The service on an in-memory world, with local agents.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "helpers of tests are tests")]

mod configuration;
mod fixture;
mod lifecycle;
mod master_keys;
mod upgrade;

use std::time::Duration;

use trove_core::{Trove, control::Builder};

/// The interval at which a condition is checked again.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Returns a builder with the message broker under test.
async fn builder() -> Builder {
    Trove::builder()
}
