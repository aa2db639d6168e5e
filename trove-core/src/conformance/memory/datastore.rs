use std::sync::Arc;

use async_trait::async_trait;

use super::{Inner, Server, World, accounts, changes};
use crate::{
    datastore::{
        AccountRules, Accounts, Configuration, Cx, Datastore, Driver, GuestHost, Manifest, Prepare, Release, Resize,
        Upgrade, Version,
    },
    error::{Error, Result},
    id::InstanceId,
    layer::{Fence, Layered},
    model::{Condition, Flavor, Health, Observed, Problem, Settings},
};

/// A datastore in memory, called `memory`, of versions `1` and `2`.
pub struct MemoryDriver {
    world: World,
    manifest: Manifest,
}

/// The server of one instance.
pub(super) struct MemoryDatastore {
    pub(super) world: World,
    pub(super) instance: InstanceId,
    pub(super) release: Release,
    pub(super) rules: AccountRules,
    flavor: Flavor,
}

impl MemoryDriver {
    pub(super) fn new(world: World) -> Self {
        let mut manifest = Manifest::new("memory", Version::new("1", "memory:1"), 1);
        manifest.versions.push(Version::new("2", "memory:2"));
        manifest.series.push("2".to_owned());
        let rules = world.inner().rules.clone();
        manifest.accounts = Some(rules.unwrap_or_else(accounts::rules));
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
        let fenced = Arc::new(Layered::new(fence, Arc::new(datastore)));
        Ok(Arc::new(Layered::new(self.world.chaos.clone(), fenced)))
    }

    fn check_settings(&self, flavor: &Flavor, settings: &Settings) -> Result<()> {
        changes::check_settings(flavor, settings)
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
                let server = world.servers.entry(self.instance).or_insert_with(|| Server {
                    image: self.release.image.clone(),
                    memory: self.flavor.memory,
                    ..Server::default()
                });
                server.settings.wanted = spec.settings.clone();
                server.start()?;
                for database in &spec.databases {
                    server.databases.entry(database.name.clone()).or_insert(accounts::text(database)?);
                }
                spec.users.iter().for_each(|user| server.ensure_user(user));
                Ok(())
            })
            .await
    }

    async fn start(&self, _cx: &Cx) -> Result<()> {
        self.world
            .call(|world| {
                let server = self.server(world)?;
                server.fault = None;
                server.start()
            })
            .await
    }

    async fn stop(&self, _cx: &Cx) -> Result<()> {
        self.world
            .call(|world| {
                self.server(world)?.running = false;
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
        let server = world.servers.get(&self.instance);
        let health = match server {
            None => Health::Down(Problem::new(Condition::Removed, "the server is gone")),
            Some(Server { fault: Some(fault), .. }) => fault.clone(),
            Some(Server { running: true, .. }) => Health::Healthy,
            Some(_) => Health::Down(Problem::new(Condition::Exited, "the server is stopped")),
        };
        Ok(Observed::new(health).settings(server.map(|server| server.settings.state())))
    }

    fn accounts(&self) -> Option<&dyn Accounts> {
        Some(self)
    }

    fn configuration(&self) -> Option<&dyn Configuration> {
        Some(self)
    }

    fn upgrade(&self) -> Option<&dyn Upgrade> {
        Some(self)
    }

    fn resize(&self) -> Option<&dyn Resize> {
        Some(self)
    }
}

impl MemoryDatastore {
    pub(super) fn server<'a>(&self, world: &'a mut Inner) -> Result<&'a mut Server> {
        world.servers.get_mut(&self.instance).ok_or_else(|| Error::corrupt("the data directory is missing"))
    }
}
