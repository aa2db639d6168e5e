//! The suite that certifies a driver.
//!
//! [`certify`] runs every case for which the driver shows the ability, on the servers of a [`Testbed`], and returns a
//! [`Report`](super::Report):
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(async {
//! use trove_core::conformance::{driver, memory::World};
//!
//! let report = driver::certify(World::new().testbed()).await;
//! println!("{report}");
//! assert!(report.passed());
//! # });
//! ```
//!
//! | cases | prove that |
//! |---|---|
//! | `contract` | a driver tells of itself what is so, and does not need to be told much |
//! | `lifecycle`, `observe` | servers come, go and are seen as they are, in every order of calls and whatever happens to them |
//! | `accounts` | databases, users and rights are what they are called, and no more |
//! | `configuration`, `upgrade`, `resize` | what is changed is in force, waits, is refused, or is gone back on; nothing is lost |
//! | `repeating`, `keys`, `fencing` | a call is made again, recognised, and refused to who owned the instance before |
//! | `cancelling`, `at_once` | a call that is given up, or is not the only one, loses nothing |
//! | `progress`, `secrets` | long work is never silent, and nothing tells a secret |
//!
//! # Adding a case
//!
//! A case is an async function of a [`ServerFixture`] that panics where the driver is wrong, and whose name states the
//! requirement. It goes into the file of its topic and into a `Group` there, which says which abilities its cases need,
//! whether they begin with a shared server, and whether they cover what drivers usually share. Seed the bug that the case
//! is to find into the reference driver, in `tests/seeded_bugs`: a case that finds no bug proves nothing.

mod accounts;
mod at_once;
mod cancelling;
mod configuration;
mod contract;
mod fencing;
mod fixture;
mod group;
mod keys;
mod lifecycle;
mod logs;
mod observe;
mod progress;
mod repeating;
mod resize;
mod secrets;
mod suite;
mod testbed;
mod upgrade;

pub use fixture::ServerFixture;
pub(super) use suite::DriverSuite;
pub use suite::{certify, certify_matching};
pub use testbed::{Artifact, ClientLogin, ClientSession, Fault, SampleSettings, SuiteOptions, Testbed};
