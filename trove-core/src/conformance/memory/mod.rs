//! An in-memory environment: a platform and a driver without processes or files.
//!
//! A [`World`] holds the volumes, computes, endpoints and servers. It outlives the control plane,
//! as a cloud does. Every call except `observe` is subject to [fault injection](World::faults): a
//! script makes it fail before or after its effect, or hang.
//!
//! The driver passes the [driver suite](super::driver) and serves as an example for authors of
//! drivers. `driver` declares the manifest and attaches datastores, `datastore` implements the
//! lifecycle calls, `server` is the state machine of a server, and `accounts`, `configuration` and
//! `upgrade` implement the abilities. `driver_testbed` and `platform_testbed` connect the
//! environment to the conformance suites.
//!
//! ```
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! use trove_core::{Trove, conformance::memory::World, control::NewInstance};
//!
//! let world = World::new();
//! let trove = Trove::builder()
//!     .store("sqlite::memory:")
//!     .platform(world.platform())
//!     .datastore(world.driver())
//!     .start()
//!     .await?;
//! let orders = trove.create(NewInstance::new("orders", "memory").database("app")).await?.active().await?;
//! assert_eq!(orders.uri("app")?.to_string(), "memory://127.0.0.1:1/app");
//! orders.delete().await?.wait().await?;
//! assert!(world.leftovers().is_empty());
//! trove.shut_down().await;
//! # Ok::<_, trove_core::error::Error>(()) }).unwrap();
//! ```

mod accounts;
mod configuration;
mod datastore;
mod driver;
mod driver_testbed;
mod platform;
mod platform_testbed;
mod server;
mod upgrade;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    future::pending,
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};
use tokio::task::yield_now;

pub use driver::MemoryDriver;
pub use driver_testbed::MemoryTestbed;
pub use platform::MemoryPlatform;

use self::server::Server;
use crate::{
    datastore::AccountRules,
    error::Result,
    id::InstanceId,
    layer::{CallInfo, FaultAction, FaultInjector, Fence},
    model::{ByteSize, Endpoint, Health, Settings},
    platform::Platform,
    secret::SecretString,
};

/// An in-memory environment: everything that exists outside the control plane. Clones share their
/// state.
#[derive(Clone)]
pub struct World {
    inner: Arc<Mutex<Inner>>,
    // The calls of an older generation hang, because a killed process sends no replies.
    generation: u64,
    faults: FaultInjector,
}

#[derive(Default)]
struct Inner {
    generation: u64,
    /// The text on each volume.
    volumes: BTreeMap<InstanceId, Option<String>>,
    computes: BTreeSet<InstanceId>,
    endpoints: BTreeMap<InstanceId, Endpoint>,
    last_port: u16,
    servers: HashMap<InstanceId, Server>,
    fences: HashMap<InstanceId, Fence>,
    rules: Option<AccountRules>,
}

/// The character set and collation of a database.
#[derive(Clone, Copy, Debug)]
struct TextEncoding {
    character_set: &'static str,
    collation: &'static str,
}

#[derive(Clone, Debug)]
struct Account {
    password: SecretString,
    databases: BTreeSet<String>,
}

impl Default for World {
    fn default() -> Self {
        Self { inner: Arc::default(), generation: 0, faults: fault_injector() }
    }
}

impl World {
    /// Creates an empty environment in which no call fails.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the account rules of the driver, for example without databases or with hosts of users.
    #[must_use]
    pub fn with_account_rules(self, rules: AccountRules) -> Self {
        self.inner().rules = Some(rules);
        self
    }

    /// Returns the platform.
    pub fn platform(&self) -> Platform {
        Platform::from(MemoryPlatform::new(self.clone())).with_fault_injection(self.faults.clone())
    }

    /// Returns the driver, whose datastore is called `memory`.
    pub fn driver(&self) -> MemoryDriver {
        MemoryDriver::new(self.clone())
    }

    /// Returns the injector that decides about the calls to the platform and the datastores.
    /// `observe` is exempt, because the number of observations depends on timing.
    pub fn faults(&self) -> &FaultInjector {
        &self.faults
    }

    /// Replaces the script of the [fault injector](Self::faults).
    pub fn script(&self, script: impl FnMut(usize, &CallInfo<'_>) -> FaultAction + Send + 'static) {
        self.faults.script(script);
    }

    /// Simulates a crash of all processes that use the environment: calls through existing handles
    /// hang. Returns a handle for their successors, with a new call index and without faults.
    #[must_use]
    pub fn crash(&self) -> Self {
        let mut inner = self.inner();
        inner.generation += 1;
        Self { inner: self.inner.clone(), generation: inner.generation, faults: fault_injector() }
    }

    /// Describes all resources that exist, one per line.
    pub fn leftovers(&self) -> Vec<String> {
        let inner = self.inner();
        let volumes = inner.volumes.keys().map(|id| format!("volume {id}"));
        let computes = inner.computes.iter().map(|id| format!("compute {id}"));
        let endpoints = inner.endpoints.keys().map(|id| format!("endpoint {id}"));
        let servers = inner.servers.keys().map(|id| format!("server {id}"));
        volumes.chain(computes).chain(endpoints).chain(servers).collect()
    }

    /// Returns whether the instance has all its resources and a running server with exactly these
    /// databases and users.
    pub fn serves(&self, instance: InstanceId, databases: &[&str], users: &[&str]) -> bool {
        let inner = self.inner();
        let complete = inner.volumes.contains_key(&instance)
            && inner.computes.contains(&instance)
            && inner.endpoints.contains_key(&instance);
        complete
            && inner.servers.get(&instance).is_some_and(|server| {
                server.running
                    && server.databases.keys().eq(databases.iter().copied())
                    && server.users.keys().map(|user| &user.name).eq(users.iter().copied())
            })
    }

    /// Returns whether the instance has a server that does not run.
    pub fn is_stopped(&self, instance: InstanceId) -> bool {
        self.inner().servers.get(&instance).is_some_and(|server| !server.running)
    }

    /// Returns the image and the memory of the instance's server.
    pub fn shape(&self, instance: InstanceId) -> Option<(String, ByteSize)> {
        self.inner().servers.get(&instance).map(|server| (server.image.clone(), server.memory))
    }

    /// Returns the settings that were last applied to the instance's server.
    pub fn settings(&self, instance: InstanceId) -> Settings {
        self.inner().servers.get(&instance).map(|server| server.settings.configured.clone()).unwrap_or_default()
    }

    /// Terminates a server, and lets it be observed with this health until it is started again.
    pub fn break_server(&self, instance: InstanceId, health: Health) {
        if let Some(server) = self.inner().servers.get_mut(&instance) {
            server.terminate(Some(health));
        }
    }

    /// Runs a call, which can be dropped before its effect and after it.
    async fn call<T>(&self, effect: impl FnOnce(&mut Inner) -> Result<T> + Send) -> Result<T> {
        yield_now().await;
        let reply = {
            let mut inner = self.inner();
            (inner.generation == self.generation).then(|| effect(&mut inner))
        };
        match reply {
            Some(reply) => {
                yield_now().await;
                reply
            }
            None => pending().await,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

fn fault_injector() -> FaultInjector {
    FaultInjector::default().exempting("observe")
}
