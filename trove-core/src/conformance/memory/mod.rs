//! A platform and a datastore in memory.
//!
//! All that they make is in a [`World`], which outlives the control plane as a cloud would. A [script](World::script)
//! decides for each call whether it fails, before or after its effect, or never returns.
//!
//! The driver passes the [suite of drivers](super::driver) and is meant to be read by whoever writes one: `datastore` is
//! the driver, `server` what it manages, and `accounts`, `settings` and `release` are its abilities, each with what the
//! server does of it. `testbed` is how the suite reaches its servers.
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
//! assert!(world.residue().is_empty());
//! trove.shut_down().await;
//! # Ok::<_, trove_core::error::Error>(()) }).unwrap();
//! ```

mod accounts;
mod datastore;
mod platform;
mod release;
mod server;
mod settings;
mod testbed;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::task::yield_now;

pub use datastore::MemoryDriver;
pub use platform::MemoryPlatform;
pub use testbed::MemoryTestbed;

use self::server::Server;
use crate::{
    error::{Error, Result},
    id::InstanceId,
    layer::Fence,
    model::{ByteSize, Endpoint, Health, Settings},
    platform::Platform,
    secret::SecretString,
};

/// What exists outside the control plane. Clones are the same world.
#[derive(Clone, Default)]
pub struct World {
    inner: Arc<Mutex<Inner>>,
    // Handles of an older life hang for ever, as those of a killed process are silent.
    life: u64,
}

#[derive(Default)]
struct Inner {
    life: u64,
    calls: usize,
    script: Option<Script>,
    volumes: BTreeSet<InstanceId>,
    computes: BTreeSet<InstanceId>,
    endpoints: BTreeMap<InstanceId, Endpoint>,
    last_port: u16,
    servers: HashMap<InstanceId, Server>,
    fences: HashMap<InstanceId, Fence>,
}

#[derive(Clone, Debug)]
struct Account {
    password: SecretString,
    databases: BTreeSet<String>,
}

/// Decides what becomes of a call: the how-manieth it is in this world, and its name.
pub type Script = Box<dyn FnMut(usize, &str) -> Verdict + Send>;

/// What becomes of a call.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It does what it should.
    Proceed,
    /// It fails and does nothing.
    FailBefore(Error),
    /// It does what it should and fails all the same.
    FailAfter(Error),
    /// It never returns and does nothing.
    HangBefore,
    /// It does what it should and never returns.
    HangAfter,
}

impl World {
    /// An empty world in which nothing fails.
    pub fn new() -> Self {
        Self::default()
    }

    /// Its infrastructure.
    pub fn platform(&self) -> Platform {
        MemoryPlatform::new(self.clone()).into()
    }

    /// Its datastore, called `memory`.
    pub fn driver(&self) -> MemoryDriver {
        MemoryDriver::new(self.clone())
    }

    /// Decides from now on what becomes of calls.
    pub fn script(&self, script: impl FnMut(usize, &str) -> Verdict + Send + 'static) {
        self.inner().script = Some(Box::new(script));
    }

    /// The same world after all that acted on it was killed: handles made before hang for ever.
    #[must_use]
    pub fn crash(&self) -> Self {
        let mut inner = self.inner();
        inner.life += 1;
        Self { inner: self.inner.clone(), life: inner.life }
    }

    /// How many calls there were.
    pub fn calls(&self) -> usize {
        self.inner().calls
    }

    /// All that exists, in words.
    pub fn residue(&self) -> Vec<String> {
        let inner = self.inner();
        let volumes = inner.volumes.iter().map(|id| format!("volume {id}"));
        let computes = inner.computes.iter().map(|id| format!("compute {id}"));
        let endpoints = inner.endpoints.keys().map(|id| format!("endpoint {id}"));
        let servers = inner.servers.keys().map(|id| format!("server {id}"));
        volumes.chain(computes).chain(endpoints).chain(servers).collect()
    }

    /// True where the instance has all it needs, and its server runs with exactly these databases and users.
    pub fn serves(&self, instance: InstanceId, databases: &[&str], users: &[&str]) -> bool {
        let inner = self.inner();
        let complete = inner.volumes.contains(&instance)
            && inner.computes.contains(&instance)
            && inner.endpoints.contains_key(&instance);
        complete
            && inner.servers.get(&instance).is_some_and(|server| {
                server.running
                    && server.databases.iter().eq(databases.iter().copied())
                    && server.users.keys().eq(users.iter().copied())
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

    /// Runs a call: asks the script, has the effect, or not, and answers, or not.
    async fn call<T>(&self, name: &str, effect: impl FnOnce(&mut Inner) -> Result<T> + Send) -> Result<T> {
        yield_now().await;
        let answer = {
            let mut inner = self.inner();
            let number = inner.calls;
            inner.calls += 1;
            let verdict = if inner.life != self.life {
                Verdict::HangBefore
            } else {
                inner.script.as_mut().map_or(Verdict::Proceed, |script| script(number, name))
            };
            match verdict {
                Verdict::Proceed => Some(effect(&mut inner)),
                Verdict::FailBefore(error) => Some(Err(error)),
                Verdict::FailAfter(error) => Some(effect(&mut inner).and(Err(error))),
                Verdict::HangBefore => None,
                Verdict::HangAfter => {
                    // Nobody hears how it went.
                    let _ = effect(&mut inner);
                    None
                }
            }
        };
        match answer {
            Some(answer) => {
                // Whoever gives the call up may do so after its effect, too.
                yield_now().await;
                answer
            }
            None => std::future::pending().await,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
