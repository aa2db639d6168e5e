//! The suite that certifies a platform.
//!
//! [`certify`] creates and releases volumes, endpoints and compute on a [`PlatformTestbed`], and
//! returns a [`Report`](super::Report):
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
//! The testbed of a platform that runs the agents of its instances remotely provides [`Agents`] and
//! the configuration of each agent.
//!
//! A case is an async function of a fixture, in the module of its subject. It panics if the platform
//! violates the contract. Afterwards its resources are released, and no other may be left.

mod agents;
mod compute;
mod fixture;
mod lifecycle;
mod networks;
mod suite;
mod testbed;
mod volumes;

pub use agents::Agents;
use fixture::PlatformFixture;
pub(super) use suite::PlatformSuite;
pub use suite::{certify, certify_matching};
pub use testbed::PlatformTestbed;
