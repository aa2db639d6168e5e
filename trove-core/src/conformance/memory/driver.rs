//! The in-memory driver, a minimal driver that fulfills the whole contract.
//!
//! Two rules are enforced by layers: [`Fence`] rejects stale epochs and reused operation keys, and
//! `Cancellable` aborts cancelled calls. The calls themselves are atomic.

use std::sync::Arc;

use super::{World, accounts, configuration, datastore::MemoryDatastore, upgrade};
use crate::{
    datastore::{Cx, Datastore, Driver, GuestHost, Manifest, Release, Version},
    error::{Error, Result},
    layer::{CallInfo, Fence, Layer, Layered, NextCall},
    model::{Flavor, Settings},
};

/// The driver of the in-memory datastore `memory`, with versions `1` and `2`.
pub struct MemoryDriver {
    world: World,
    manifest: Manifest,
}

/// Aborts cancelled calls.
struct Cancellable;

impl MemoryDriver {
    pub(super) fn new(world: World) -> Self {
        let mut manifest = Manifest::new("memory", Version::new("1", "memory:1"), 1);
        manifest.versions.push(Version::new("2", "memory:2"));
        manifest.series = upgrade::SERIES.map(str::to_owned).into();
        let rules = world.inner().rules.clone();
        manifest.accounts = Some(rules.unwrap_or_else(accounts::default_rules));
        (manifest.configuration, manifest.upgrade, manifest.resize) = (true, true, true);
        Self { world, manifest }
    }
}

impl Driver for MemoryDriver {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn attach(&self, host: GuestHost) -> Result<Arc<dyn Datastore>> {
        let release = Release::new(host.version, host.image);
        let fence = self.world.inner().fences.entry(host.instance).or_insert_with(Fence::in_memory).clone();
        let rules = self.manifest.accounts.clone().unwrap_or_else(accounts::default_rules);
        let (world, instance) = (self.world.clone(), host.instance);
        let datastore = MemoryDatastore { world, instance, release, rules, flavor: host.flavor };
        let cancellable = Arc::new(Layered::new(Cancellable, Arc::new(datastore)));
        let fenced = Arc::new(Layered::new(fence, cancellable));
        Ok(Arc::new(Layered::new(self.world.faults.clone(), fenced)))
    }

    fn check_settings(&self, flavor: &Flavor, settings: &Settings) -> Result<()> {
        configuration::check_settings(flavor, settings)
    }
}

impl Layer for Cancellable {
    async fn around<'a, T: Send + 'a>(
        &'a self,
        cx: &'a Cx,
        _call: &'a CallInfo<'a>,
        next: NextCall<'a, T>,
    ) -> Result<T> {
        tokio::select! {
            biased;
            () = cx.cancelled() => Err(Error::cancelled("the operation was cancelled")),
            result = next() => result,
        }
    }
}
