//! The core of a database service: what runs databases for others, as a library.
//!
//! An embedder puts a [`Trove`] together from a store, a platform and datastores, and asks it for instances. It makes
//! them, watches them, starts again what fails, changes them and removes them, and goes on where it was after a crash.
//!
//! ```
//! # #[cfg(feature = "conformance")]
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
//! let new = NewInstance::new("orders", "memory").volume(gib(5)).database("app").user("app", "correct horse");
//! let orders = trove.create(new).await?.active().await?;
//! println!("{}", orders.uri("app")?);
//! # trove.shut_down().await;
//! # Ok::<_, trove_core::error::Error>(()) }).unwrap();
//! ```
//!
//! # What is where
//!
//! Bottom up; a module uses those above it only.
//!
//! | module | what it holds |
//! |---|---|
//! | [`id`], [`secret`], [`time`], [`error`], [`fs`] | typed ids, secrets that never print, one clock, one error, durable files |
//! | [`lifecycle`] | the states of an instance and what may begin in which: [a page of its own](lifecycle) |
//! | [`model`] | plain data that is stored and shown |
//! | [`events`] | what happens, as it happens |
//! | [`datastore`] | the contract of a database driver |
//! | [`layer`] | what is done around every call to a driver |
//! | [`platform`] | the contract of what instances are made of |
//! | [`rpc`] | messages between the control plane and guests |
//! | [`store`] | instances, the journal, configuration groups and versions, on SQLite or PostgreSQL |
//! | [`guest`] | the agent beside a server |
//! | [`flow`] | operations that survive |
//! | [`taskmanager`] | one flow for each operation |
//! | [`control`] | [`Trove`], the way in |
//! | [`conformance`] | suites for implementers, and a world in memory (feature `conformance`) |
//!
//! # The way of a request
//!
//! ```text
//!   Trove: validates, writes the instance and its operation's first journal row in one transaction
//!     `-> the flow engine claims the operation; each step asks
//!           |-> the platform: volume, endpoint, place to run
//!           `-> the guest agent -> the driver -> the server
//!   and back:   driver -> agent's report -> conductor -> store -> events
//! ```
//!
//! There is no message that, if lost, leaves an instance stuck: everything that has to happen is a row.
//!
//! # Features
//!
//! `sqlite` and `postgres` (both on by default) are the stores; without either only the contracts are built.
//! `amqp` adds the transport to guests that live elsewhere. `conformance` adds the suites and the world in memory.

#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod conductor;
#[cfg(all(feature = "conformance", any(feature = "sqlite", feature = "postgres")))]
pub mod conformance;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod control;
pub mod datastore;
pub mod error;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod events;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod flow;
pub mod fs;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
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
pub mod taskmanager;
pub mod time;

#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use control::Trove;
