//! The suites of drivers and platforms on those in memory.

use std::sync::Arc;

use async_trait::async_trait;
use trove_core::{
    conformance::{driver, memory::World, platform},
    datastore::{Abilities, AccountRules, Cx, Datastore, Driver, GuestHost, Manifest, Prepare},
    error::Result,
    model::Observed,
};

#[tokio::test(start_paused = true)]
async fn the_reference_driver_passes() {
    let report = driver::certify(World::new().testbed()).await;
    assert!(report.passed(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn servers_without_databases_and_with_hosts_pass_too() {
    let (mut shared, mut hosts) = (AccountRules::new(32), AccountRules::new(63));
    shared.databases = false;
    hosts.hosts = true;
    for rules in [shared, hosts] {
        let report = driver::certify(World::new().account_rules(rules).testbed()).await;
        assert!(report.passed(), "{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_platform_in_memory_passes() {
    let report = platform::certify("memory", World::new()).await;
    assert!(report.passed(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_driver_without_abilities_is_tried_by_what_is_left() {
    let world = World::new();
    let inner: Arc<dyn Driver> = Arc::new(world.driver());
    let mut manifest = inner.manifest().clone();
    manifest.accounts = None;
    (manifest.configuration, manifest.upgrade, manifest.resize) = (false, false, false);
    let report = driver::certify(world.testbed_for(Arc::new(BareDriver { inner, manifest }))).await;
    assert!(report.passed(), "{report}");
    let skipped = report.to_string().matches("skipped ").count();
    assert!(report.cases.len() - skipped >= 45, "{report}");
}

/// The reference driver without its abilities.
struct BareDriver {
    inner: Arc<dyn Driver>,
    manifest: Manifest,
}

struct Bare(Arc<dyn Datastore>);

impl Driver for BareDriver {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn attach(&self, host: GuestHost) -> Result<Arc<dyn Datastore>> {
        Ok(Arc::new(Bare(self.inner.attach(host)?)))
    }
}

#[async_trait]
impl Datastore for Bare {
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
        let mut seen = self.0.observe(cx).await?;
        seen.settings = None;
        Ok(seen)
    }

    fn abilities(&self) -> Abilities<'_> {
        Abilities::default()
    }
}
