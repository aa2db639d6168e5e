//! The suite that certifies a platform.
//!
//! [`certify`] makes and releases volumes, endpoints and computes on a [`Testbed`], and returns a
//! [`Report`](super::Report):
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(async {
//! use trove_core::conformance::{memory::World, platform};
//!
//! let report = platform::certify("memory", World::new()).await;
//! println!("{report}");
//! assert!(report.passed());
//! # });
//! ```
//!
//! A platform that runs the agents of its instances elsewhere is tried with [`Agents`] too: its testbed has them, and tells
//! what the platform told each.
//!
//! A case is an async function of a [`PlatformFixture`] that panics where the platform is wrong, in the file of its subject and in
//! the list there. What it made is released after it, and then nothing may be left.

mod agents;
mod compute;
mod fixture;
mod life;
mod networks;
mod suite;
mod testbed;
mod volumes;

pub use agents::Agents;
pub use fixture::PlatformFixture;
pub(super) use suite::PlatformSuite;
pub use suite::{certify, certify_matching};
pub use testbed::Testbed;
