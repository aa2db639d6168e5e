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
//! A case is an async function of a [`Trial`] that panics where the driver is wrong, and whose name says what is right.
//! It is written into the file of its subject and named in the list there, which says what its cases need and whether
//! they want a server that others use too. What it is to find is built into the reference driver as a bug, in
//! `tests/seeded_bugs`: a case that finds nothing proves nothing.

mod accounts;
mod at_once;
mod cancelling;
mod configuration;
mod contract;
mod fencing;
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
mod trial;
mod upgrade;

pub use suite::{certify, certify_only};
pub use testbed::{Harm, Login, Pace, Samples, Session, Testbed, Trace};
pub use trial::Trial;
