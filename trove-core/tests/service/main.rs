//! The service on an in-memory world, with in-process guests.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod configuration_and_upgrade;
mod lifecycle;
mod master_keys;

use trove_core::{Trove, control::Builder};

/// Returns a builder with the bus under test.
async fn builder() -> Builder {
    Trove::builder()
}
