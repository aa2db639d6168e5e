//! A platform and a datastore in memory.
//!
//! All that they make is in a [`World`], which outlives the control plane as a cloud would. All calls but `observe` go
//! through its [faults](World::faults), whose script decides whether they fail, before or after their effect, or never return.
//!
//! The driver passes the [suite of drivers](super::driver) and is meant to be read by whoever writes one: `datastore` is
//! the driver, `instance` its handle of a server, `server` the server itself, and `accounts`, `settings` and `release`
//! are its abilities. `testbed` is how the suite reaches its servers.
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
mod datastore;
mod infrastructure;
mod instance;
mod platform;
mod release;
mod server;
mod settings;
mod testbed;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::task::yield_now;

pub use datastore::MemoryDriver;
pub use platform::MemoryPlatform;
pub use testbed::MemoryTestbed;

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

/// What exists outside the control plane. Clones are the same world.
#[derive(Clone)]
pub struct World {
    inner: Arc<Mutex<Inner>>,
    // Handles of an older life hang for ever, as those of a killed process are silent.
    life: u64,
    faults: FaultInjector,
}

#[derive(Default)]
struct Inner {
    life: u64,
    /// Each with what was written into it.
    volumes: BTreeMap<InstanceId, Option<String>>,
    computes: BTreeSet<InstanceId>,
    endpoints: BTreeMap<InstanceId, Endpoint>,
    last_port: u16,
    servers: HashMap<InstanceId, Server>,
    fences: HashMap<InstanceId, Fence>,
    rules: Option<AccountRules>,
}

/// How the text of a database is encoded and ordered.
#[derive(Clone, Copy, Debug)]
struct Text {
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
        Self { inner: Arc::default(), life: 0, faults: fault_injector() }
    }
}

impl World {
    /// An empty world in which nothing fails.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with servers that ask this of names: they may have no databases, or users told apart by their hosts.
    #[must_use]
    pub fn account_rules(self, rules: AccountRules) -> Self {
        self.inner().rules = Some(rules);
        self
    }

    /// Its infrastructure.
    pub fn platform(&self) -> Platform {
        Platform::from(MemoryPlatform::new(self.clone())).with_faults(self.faults.clone())
    }

    /// Its datastore, called `memory`.
    pub fn driver(&self) -> MemoryDriver {
        MemoryDriver::new(self.clone())
    }

    /// What decides what becomes of calls to the platform and to the datastores. `observe` is not among them: how often
    /// a server is looked at is a matter of time.
    pub fn faults(&self) -> &FaultInjector {
        &self.faults
    }

    /// Decides from now on what becomes of calls.
    pub fn script(&self, script: impl FnMut(usize, &CallInfo<'_>) -> FaultAction + Send + 'static) {
        self.faults.script(script);
    }

    /// The same world after all that acted on it was killed: handles made before hang for ever. Calls are counted anew,
    /// and proceed.
    #[must_use]
    pub fn crash(&self) -> Self {
        let mut inner = self.inner();
        inner.life += 1;
        Self { inner: self.inner.clone(), life: inner.life, faults: fault_injector() }
    }

    /// All that exists, in words.
    pub fn leftovers(&self) -> Vec<String> {
        let inner = self.inner();
        let volumes = inner.volumes.keys().map(|id| format!("volume {id}"));
        let computes = inner.computes.iter().map(|id| format!("compute {id}"));
        let endpoints = inner.endpoints.keys().map(|id| format!("endpoint {id}"));
        let servers = inner.servers.keys().map(|id| format!("server {id}"));
        volumes.chain(computes).chain(endpoints).chain(servers).collect()
    }

    /// True where the instance has all it needs, and its server runs with exactly these databases and users.
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

    /// True where the instance has a server and it does not run.
    pub fn is_stopped(&self, instance: InstanceId) -> bool {
        self.inner().servers.get(&instance).is_some_and(|server| !server.running)
    }

    /// The image and the memory that the instance's server has, where it has one.
    pub fn shape(&self, instance: InstanceId) -> Option<(String, ByteSize)> {
        self.inner().servers.get(&instance).map(|server| (server.image.clone(), server.memory))
    }

    /// The settings that the instance's server was told.
    pub fn settings(&self, instance: InstanceId) -> Settings {
        self.inner().servers.get(&instance).map(|server| server.settings.wanted.clone()).unwrap_or_default()
    }

    /// Breaks a server, so that it is seen like this until it is started again.
    pub fn break_server(&self, instance: InstanceId, health: Health) {
        if let Some(server) = self.inner().servers.get_mut(&instance) {
            server.end(Some(health));
        }
    }

    /// Runs a call. Whoever gives it up does so before its effect or after.
    async fn call<T>(&self, effect: impl FnOnce(&mut Inner) -> Result<T> + Send) -> Result<T> {
        yield_now().await;
        let answer = {
            let mut inner = self.inner();
            (inner.life == self.life).then(|| effect(&mut inner))
        };
        match answer {
            Some(answer) => {
                yield_now().await;
                answer
            }
            None => pending().await,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fault_injector() -> FaultInjector {
    FaultInjector::default().exempting("observe")
}
