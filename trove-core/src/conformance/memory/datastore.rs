use std::sync::Arc;

use async_trait::async_trait;

use super::{Account, Inner, Server, World};
use crate::{
    datastore::{AccountRules, Accounts, Cx, Datastore, Driver, GuestHost, Manifest, Prepare, Version},
    error::{Error, Result},
    id::InstanceId,
    model::{Condition, Health, Observed, Problem},
};

/// A datastore in memory, called `memory`, version `1`.
pub struct MemoryDriver {
    world: World,
    manifest: Manifest,
}

/// The server of one instance.
pub(super) struct MemoryDatastore {
    pub(super) world: World,
    pub(super) instance: InstanceId,
}

impl MemoryDriver {
    pub(super) fn new(world: World) -> Self {
        let mut manifest = Manifest::new("memory", Version::new("1", "memory:1"), 1);
        manifest.accounts = Some(AccountRules::new(63));
        Self { world, manifest }
    }
}

impl Driver for MemoryDriver {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn attach(&self, host: GuestHost) -> Result<Arc<dyn Datastore>> {
        Ok(Arc::new(MemoryDatastore { world: self.world.clone(), instance: host.instance }))
    }
}

#[async_trait]
impl Datastore for MemoryDatastore {
    async fn prepare(&self, cx: &Cx, spec: &Prepare) -> Result<()> {
        cx.phase("initialise");
        self.world
            .call("prepare", |world| {
                if !world.computes.contains(&self.instance) {
                    return Err(Error::internal("there is no place to run"));
                }
                let server = world.servers.entry(self.instance).or_default();
                server.running = true;
                server.databases.extend(spec.databases.iter().map(|database| database.name.clone()));
                for user in &spec.users {
                    let databases = user.databases.iter().cloned().collect();
                    let account = Account { password: user.password.clone(), databases };
                    server.users.insert(user.name.clone(), account);
                }
                Ok(())
            })
            .await
    }

    async fn start(&self, _cx: &Cx) -> Result<()> {
        self.world
            .call("start", |world| {
                let server = self.server(world)?;
                server.running = true;
                server.fault = None;
                Ok(())
            })
            .await
    }

    async fn stop(&self, _cx: &Cx) -> Result<()> {
        self.world
            .call("stop", |world| {
                self.server(world)?.running = false;
                Ok(())
            })
            .await
    }

    async fn remove(&self, _cx: &Cx) -> Result<()> {
        self.world
            .call("remove", |world| {
                world.servers.remove(&self.instance);
                Ok(())
            })
            .await
    }

    async fn observe(&self, _cx: &Cx) -> Result<Observed> {
        // Looking is not a call that a script counts: how often it happens is a matter of time.
        let health = match self.world.inner().servers.get(&self.instance) {
            None => Health::Down(Problem::new(Condition::Removed, "the server is gone")),
            Some(Server { fault: Some(fault), .. }) => fault.clone(),
            Some(Server { running: true, .. }) => Health::Healthy,
            Some(_) => Health::Down(Problem::new(Condition::Exited, "the server is stopped")),
        };
        Ok(Observed::new(health))
    }

    fn accounts(&self) -> Option<&dyn Accounts> {
        Some(self)
    }
}

impl MemoryDatastore {
    pub(super) fn server<'a>(&self, world: &'a mut Inner) -> Result<&'a mut Server> {
        world.servers.get_mut(&self.instance).ok_or_else(|| Error::corrupt("the data directory is missing"))
    }
}
