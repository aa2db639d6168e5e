//! The conformance suite for drivers.
//!
//! The suite tests every rule of the [driver contract](crate::datastore) on real servers. It
//! creates, stops, upgrades and removes them through the driver, and looks at them from outside:
//! as a client that logs in, and as an operator who lists processes and reads logs. It kills and
//! suspends servers, fills their volumes, drops calls midway, repeats calls, and lets another owner
//! take over. A driver is complete when it passes.
//!
//! # Write a testbed
//!
//! A [`DriverTestbed`] provides what the suite needs besides the driver: hosts, client sessions,
//! faults, and sample settings. For engines that run in containers, `trove_drivers::conformance`
//! has a complete one, `DockerTestbed`. For other engines, implement the trait. This testbed
//! suffices for an engine without users:
//!
//! ```
//! use std::{fs, io, path::PathBuf, sync::Arc};
//!
//! use async_trait::async_trait;
//! use trove_core::{
//!     conformance::driver::{Artifact, ClientLogin, ClientSession, ServerFault, DriverTestbed},
//!     datastore::{Driver, GuestHost},
//!     error::{Error, Result},
//!     id::InstanceId,
//!     model::{Flavor, gib, mib},
//! };
//!
//! /// Hosts on this machine, for servers that are child processes.
//! struct ProcessTestbed {
//!     driver: Arc<dyn Driver>,
//!     root: PathBuf,
//! }
//!
//! #[async_trait]
//! impl DriverTestbed for ProcessTestbed {
//!     fn driver(&self) -> &Arc<dyn Driver> {
//!         &self.driver
//!     }
//!
//!     async fn allocate(&self) -> Result<GuestHost> {
//!         let instance = InstanceId::new_v4();
//!         let directory = self.root.join(instance.to_string());
//!         let mut host = GuestHost::new(instance, directory.join("volume"), directory.join("run"));
//!         fs::create_dir_all(&host.volume).map_err(failed)?;
//!         fs::create_dir_all(&host.directory).map_err(failed)?;
//!         let version = self.driver.manifest().version(None)?;
//!         host.version.clone_from(&version.name);
//!         host.image.clone_from(&version.image);
//!         host.flavor = Flavor::new("small", mib(256), 1);
//!         host.volume_size = gib(1);
//!         Ok(host)
//!     }
//!
//!     async fn release(&self, host: &GuestHost) -> Result<()> {
//!         // Kill a server that still runs here; a failed case may leave one.
//!         fs::remove_dir_all(self.root.join(host.instance.to_string())).map_err(failed)
//!     }
//!
//!     async fn leftovers(&self, _host: &GuestHost) -> Result<Vec<String>> {
//!         // List the processes of the instance here.
//!         Ok(Vec::new())
//!     }
//!
//!     async fn connect(&self, _: &GuestHost, _: &ClientLogin) -> Result<Box<dyn ClientSession>> {
//!         Err(Error::unsupported("the engine has no users"))
//!     }
//!
//!     async fn inject(&self, _host: &GuestHost, fault: ServerFault) -> Result<()> {
//!         match fault {
//!             // Send signals to the process of the server here.
//!             fault => Err(Error::unsupported(format!("the testbed cannot inject {fault:?}"))),
//!         }
//!     }
//!
//!     async fn artifacts(&self, _host: &GuestHost) -> Result<Vec<Artifact>> {
//!         // Return the log and the configuration files of the server here.
//!         Ok(Vec::new())
//!     }
//! }
//!
//! fn failed(error: io::Error) -> Error {
//!     Error::unavailable("could not access the directory of a host").with_source(error)
//! }
//! ```
//!
//! An engine with users also needs [`connect`](DriverTestbed::connect) and a [`ClientSession`]. An
//! engine with parameters needs [`sample_settings`](DriverTestbed::sample_settings), and one with
//! upgrades needs [`upgrade_target`](DriverTestbed::upgrade_target).
//!
//! # Run the suite
//!
//! In the test target of a driver, use a [`Harness`](super::Harness), which runs each case as a
//! test. Its page shows the declaration of the target and the arguments:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use trove_core::conformance::{Harness, Selection, Tier};
//! # use trove_core::conformance::memory::{MemoryTestbed, World};
//! # fn testbed() -> MemoryTestbed {
//! #     World::new().testbed()
//! # }
//!
//! fn main() -> ExitCode {
//!     let selection = match Tier::from_env() {
//!         Tier::Quick => Selection::Specific,
//!         Tier::Full => Selection::All,
//!     };
//!     Harness::from_args().driver("mydb_1_0", selection, async || Ok(testbed())).run()
//! }
//! ```
//!
//! Within another test or program, call [`certify`] or [`certify_matching`], and print the
//! [`Report`](super::Report):
//!
//! ```
//! # use tokio::runtime::Builder;
//! # let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
//! # runtime.block_on(async {
//! use trove_core::conformance::{driver, memory::World};
//!
//! let report = driver::certify(World::new().testbed()).await;
//! println!("{report}");
//! assert!(report.passed());
//! # });
//! ```
//!
//! # Read the results
//!
//! The name of a failed case states the requirement that the driver does not meet, and the message
//! states the observation. Cases that need an ability which the [`Manifest`] does not declare, or a
//! sample or a fault which the testbed does not have, are skipped. A driver is certified if no case
//! failed, and every skipped case concerns an ability that the engine lacks.
//!
//! | group | requirement |
//! |---|---|
//! | `contract` | the manifest is consistent and matches the datastore |
//! | `lifecycle` | calls in any order create, start, stop and remove the server, and keep its data |
//! | `observe` | observations report the actual state, whatever happens to the server |
//! | `accounts` | databases, users and privileges are exactly as requested, with any valid name |
//! | `configuration` | the catalog is accurate; settings take effect, or are rejected or rolled back |
//! | `upgrade` | upgrades keep data, users and settings, and can be reverted until committed |
//! | `resize` | limits change without loss of data or settings |
//! | `idempotency` | a call whose reply was lost can be repeated by another owner |
//! | `idempotency_keys` | a key that is reused with other arguments is a conflict |
//! | `fencing` | a superseded owner cannot change anything |
//! | `cancellation` | a cancelled or dropped call loses nothing |
//! | `concurrency` | concurrent calls have the effect of sequential ones |
//! | `progress` | long calls report progress |
//! | `secrets` | no secret appears in files, logs, errors or progress |
//!
//! # Add a case
//!
//! 1. Write an async function of a `ServerFixture` that panics if the driver is wrong. Its name
//!    states the requirement: `a_killed_server_can_be_removed`.
//! 2. Add it to a `Group` in the file of its topic. The group declares which abilities its cases
//!    need, and whether they start with an empty host or with a server that they share and leave
//!    clean. Mark groups of cases about code that drivers usually share as `common`.
//! 3. Seed a bug that the case has to find into the reference driver, in `tests/seeded_bugs`. A
//!    case that finds no bug proves nothing.
//!
//! [`Manifest`]: crate::datastore::Manifest

mod accounts;
mod cancellation;
mod concurrency;
mod configuration;
mod contract;
mod fencing;
mod fixture;
mod group;
mod idempotency;
mod idempotency_keys;
mod lifecycle;
mod log_capture;
mod observe;
mod progress;
mod resize;
mod secrets;
mod suite;
mod testbed;
mod upgrade;

pub(in crate::conformance) use fixture::ServerFixture;
pub(super) use suite::DriverSuite;
pub use suite::{certify, certify_matching};
pub use testbed::{Artifact, ClientLogin, ClientSession, DriverTestbed, SampleSettings, ServerFault, SuiteOptions};
