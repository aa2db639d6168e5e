//! The service on a world in memory, with guests in this process.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod changes;
mod keys;
mod life;

use trove_core::{Trove, control::Builder};

/// A service with the bus that is tried here.
async fn builder() -> Builder {
    Trove::builder()
}
