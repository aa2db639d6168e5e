//! The service on an in-memory world, with local agents.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "helpers of tests are tests")]

mod configuration;
mod fixture;
mod lifecycle;
mod master_keys;
mod upgrade;

use trove_core::{Trove, control::Builder};

/// Returns a builder with the message broker under test.
async fn builder() -> Builder {
    Trove::builder()
}
