//! The conformance suites on the implementations of this crate. `cargo test --test conformance
//! memory::accounts` runs the cases whose names contain the filter.

use std::{process::ExitCode, sync::Arc};

use async_trait::async_trait;
use trove_core::{
    conformance::{Harness, memory::World},
    datastore::{Abilities, AccountRules, Cx, Datastore, Driver, GuestHost, Manifest, Prepare},
    error::Result,
    model::Observed,
    rpc::InProcess,
    store::Store,
};

fn main() -> ExitCode {
    Harness::from_args()
        .driver_in_memory("memory", || World::new().testbed())
        .driver_in_memory("memory_without_databases", || {
            let mut rules = AccountRules::new(32);
            rules.databases = false;
            World::new().with_account_rules(rules).testbed()
        })
        .driver_in_memory("memory_with_hosts", || {
            let mut rules = AccountRules::new(63);
            rules.hosts = true;
            World::new().with_account_rules(rules).testbed()
        })
        .driver_in_memory("memory_without_abilities", || {
            let world = World::new();
            world.testbed_for(Arc::new(DriverWithoutAbilities::new(world.driver())))
        })
        .platform_in_memory("memory", World::new)
        .transport("in_process", async || Ok(InProcess::new()))
        .store("sqlite_in_memory", async || Store::connect("sqlite::memory:").await)
        .run()
}

/// The in-memory driver without abilities.
struct DriverWithoutAbilities {
    inner: Arc<dyn Driver>,
    manifest: Manifest,
}

struct DatastoreWithoutAbilities(Arc<dyn Datastore>);

impl DriverWithoutAbilities {
    fn new(inner: impl Driver) -> Self {
        let mut manifest = inner.manifest().clone();
        manifest.accounts = None;
        (manifest.configuration, manifest.upgrade, manifest.resize) = (false, false, false);
        Self { inner: Arc::new(inner), manifest }
    }
}

impl Driver for DriverWithoutAbilities {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn attach(&self, host: GuestHost) -> Result<Arc<dyn Datastore>> {
        Ok(Arc::new(DatastoreWithoutAbilities(self.inner.attach(host)?)))
    }
}

#[async_trait]
impl Datastore for DatastoreWithoutAbilities {
    async fn prepare(&self, cx: &Cx, spec: &Prepare) -> Result<()> {
        self.0.prepare(cx, spec).await
    }

    async fn start(&self, cx: &Cx) -> Result<()> {
        self.0.start(cx).await
    }

    async fn stop(&self, cx: &Cx) -> Result<()> {
        self.0.stop(cx).await
    }

    async fn remove(&self, cx: &Cx) -> Result<()> {
        self.0.remove(cx).await
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let mut observed = self.0.observe(cx).await?;
        observed.settings = None;
        Ok(observed)
    }

    fn abilities(&self) -> Abilities<'_> {
        Abilities::default()
    }
}
