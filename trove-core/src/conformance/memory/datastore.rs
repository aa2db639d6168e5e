//! The driver in memory: a driver as short as one can be that keeps all rules.
//!
//! Two rules it has from layers around it: [`Fence`] refuses former owners and keys that were used for something else,
//! `Cancellable` ends a call that is given up. The others it keeps by how a call is made: each is one step that either
//! happens or not, on a server that is found by its instance.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Server, World, accounts, instance::MemoryDatastore, release, settings};
use crate::{
    datastore::{Abilities, Cx, Datastore, Driver, GuestHost, Manifest, Prepare, Release, Version},
    error::{Error, Result},
    layer::{CallInfo, Fence, Layer, Layered, NextCall},
    model::{Condition, Flavor, Health, Observed, Problem, Settings},
};

/// A datastore in memory, called `memory`, of versions `1` and `2`.
pub struct MemoryDriver {
    world: World,
    manifest: Manifest,
}

/// Ends calls that are given up.
struct Cancellable;

impl MemoryDriver {
    pub(super) fn new(world: World) -> Self {
        let mut manifest = Manifest::new("memory", Version::new("1", "memory:1"), 1);
        manifest.versions.push(Version::new("2", "memory:2"));
        manifest.series = release::SERIES.map(str::to_owned).into();
        let rules = world.inner().rules.clone();
        manifest.accounts = Some(rules.unwrap_or_else(accounts::rules));
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
        let rules = self.manifest.accounts.clone().unwrap_or_else(accounts::rules);
        let (world, instance) = (self.world.clone(), host.instance);
        let datastore = MemoryDatastore { world, instance, release, rules, flavor: host.flavor };
        let cancellable = Arc::new(Layered::new(Cancellable, Arc::new(datastore)));
        let fenced = Arc::new(Layered::new(fence, cancellable));
        Ok(Arc::new(Layered::new(self.world.faults.clone(), fenced)))
    }

    fn check_settings(&self, flavor: &Flavor, settings: &Settings) -> Result<()> {
        settings::check_settings(flavor, settings)
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
            done = next() => done,
        }
    }
}

#[async_trait]
impl Datastore for MemoryDatastore {
    async fn prepare(&self, cx: &Cx, spec: &Prepare) -> Result<()> {
        cx.phase("initialise");
        self.world
            .call(|world| {
                if !world.computes.contains(&self.instance) {
                    return Err(Error::internal("there is no place to run"));
                }
                release::check(&self.release)?;
                let new = || Server::new(&self.release, self.flavor.memory);
                let server = world.servers.entry(self.instance).or_insert_with(new);
                if server.settings.running.is_none() {
                    server.settings.wanted.clone_from(&spec.settings);
                }
                server.start()?;
                for database in &spec.databases {
                    server.databases.entry(database.name.clone()).or_insert(accounts::text(database)?);
                }
                spec.users.iter().for_each(|user| server.ensure_user(user));
                Ok(())
            })
            .await
    }

    async fn start(&self, cx: &Cx) -> Result<()> {
        cx.phase("start server");
        self.world.call(|world| self.server(world)?.start()).await
    }

    async fn stop(&self, cx: &Cx) -> Result<()> {
        cx.phase("stop server");
        self.world
            .call(|world| {
                self.server(world)?.stop();
                Ok(())
            })
            .await
    }

    async fn remove(&self, _cx: &Cx) -> Result<()> {
        self.world
            .call(|world| {
                world.servers.remove(&self.instance);
                Ok(())
            })
            .await
    }

    async fn observe(&self, _cx: &Cx) -> Result<Observed> {
        let world = self.world.inner();
        let gone = || Observed::new(Health::Down(Problem::new(Condition::Removed, "the server is gone")));
        Ok(world.servers.get(&self.instance).map_or_else(gone, Server::observe))
    }

    fn abilities(&self) -> Abilities<'_> {
        Abilities { accounts: Some(self), configuration: Some(self), upgrade: Some(self), resize: Some(self) }
    }
}
