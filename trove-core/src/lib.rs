//! The core of a database service, as a library: contracts, lifecycle, durable operations and the
//! guest agent.
//!
//! An embedder builds a [`Trove`] from a store, a platform and datastores, and requests database
//! instances from it. The service creates, monitors, restarts, changes and deletes them, and
//! resumes unfinished operations after a crash.
//!
//! ```
//! # #[cfg(all(feature = "conformance", feature = "sqlite"))]
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! # let world = trove_core::conformance::memory::World::new();
//! # let (platform, datastore) = (world.platform(), world.driver());
//! use trove_core::{Trove, control::NewInstance, model::gib};
//!
//! let trove = Trove::builder()
//!     .store("sqlite::memory:") // or sqlite:trove.db, or postgres://user@host/database
//!     .platform(platform)
//!     .datastore(datastore)
//!     .start()
//!     .await?;
//! let new = NewInstance::new("orders", "memory")
//!     .volume(gib(5))
//!     .database("app")
//!     .user("app", "correct horse");
//! let orders = trove.create(new).await?.active().await?;
//! println!("{}", orders.uri("app")?);
//! # trove.shut_down().await;
//! # Ok::<_, trove_core::error::Error>(()) }).unwrap();
//! ```
//!
//! # Modules
//!
//! Bottom up; a module uses only modules above it in this table.
//!
//! | module | contents |
//! |---|---|
//! | [`id`], [`secret`], [`time`], [`error`], [`fs`] | typed ids, secrets that never print, the clock, the error type, atomic file replacement |
//! | [`lifecycle`] | the [states of an instance](lifecycle) and the actions allowed in each |
//! | [`model`] | plain data that is stored and shown |
//! | [`datastore`] | the driver contract |
//! | [`layer`] | wrappers around any driver |
//! | [`platform`] | the infrastructure contract |
//! | [`rpc`] | messages between the control plane and guests |
//! | [`guest`] | the agent that manages a server |
//! | [`store`], [`events`] | SQL on SQLite and PostgreSQL; the event stream |
//! | `flow` | the durable operation engine |
//! | `taskmanager` | one flow for each operation; the directory of guests |
//! | `conductor` | batches agent reports into the store |
//! | [`control`] | [`Trove`], the entry point for embedders |
//! | [`conformance`] | suites for implementers, and in-memory implementations |
//!
//! # The path of a request
//!
//! ```text
//!   Trove: validates, writes the instance and its operation's first journal row in one transaction
//!     `-> the flow engine claims the operation; each step calls
//!           |-> the platform: volume, endpoint, compute
//!           `-> the guest agent -> the driver -> the server
//!   and back:   driver -> agent's report -> conductor -> store -> events
//! ```
//!
//! No single lost message can leave an instance stuck, because all pending work is in the journal.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `sqlite`, `postgres` (default) | the control plane ([`Trove`]) with its store; without either, only the contracts and the agent are built |
//! | `amqp` | the AMQP transport, and agents that are processes of their own |
//! | `amqp-tls` | TLS to the broker and its HTTP API, with rustls |
//! | `amqp-management` | the control plane's end of that transport, with a client of RabbitMQ's HTTP API |
//! | `conformance` | the conformance suites and the in-memory implementations |

#[cfg(all(feature = "bench-internals", any(feature = "sqlite", feature = "postgres")))]
#[doc(hidden)]
pub mod bench;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod conductor;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod control;
pub mod datastore;
pub mod error;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod events;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod flow;
pub mod fs;
#[cfg_attr(
    not(any(feature = "sqlite", feature = "postgres")),
    allow(dead_code, unused_imports, reason = "the control plane's half of the protocol is unused without a store")
)]
pub mod guest;
pub mod id;
pub mod layer;
pub mod lifecycle;
pub mod model;
pub mod platform;
pub mod rpc;
pub mod secret;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod store;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod taskmanager;
pub mod time;

#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use control::Trove;
