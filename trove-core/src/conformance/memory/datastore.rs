//! The lifecycle calls of the in-memory datastore.

use async_trait::async_trait;

use super::{Inner, Server, World, accounts, upgrade};
use crate::{
    datastore::{Abilities, AccountRules, Cx, Datastore, Prepare, Release},
    error::{Error, Result},
    id::InstanceId,
    model::{Condition, Flavor, Health, Observed, Problem},
};

/// A handle to the server of one instance. It implements all abilities.
pub(super) struct MemoryDatastore {
    pub(super) world: World,
    pub(super) instance: InstanceId,
    pub(super) release: Release,
    pub(super) rules: AccountRules,
    pub(super) flavor: Flavor,
}

impl MemoryDatastore {
    pub(super) fn server<'a>(&self, world: &'a mut Inner) -> Result<&'a mut Server> {
        world.servers.get_mut(&self.instance).ok_or_else(|| Error::corrupt("the data directory is missing"))
    }

    /// Runs a call on the server; `Unavailable` if it accepts no connections.
    pub(super) async fn on_server<T>(&self, call: impl FnOnce(&mut Server) -> Result<T> + Send) -> Result<T> {
        self.world
            .call(|world| {
                let server = self.server(world)?;
                if !server.accepts_connections() {
                    return Err(Error::unavailable("the server does not answer"));
                }
                call(server)
            })
            .await
    }
}

#[async_trait]
impl Datastore for MemoryDatastore {
    async fn prepare(&self, cx: &Cx, spec: &Prepare) -> Result<()> {
        cx.phase("initialize");
        self.world
            .call(|world| {
                if !world.computes.contains(&self.instance) {
                    return Err(Error::internal("the instance has no compute"));
                }
                upgrade::check_release(&self.release)?;
                let new = || Server::new(&self.release, self.flavor.memory);
                let server = world.servers.entry(self.instance).or_insert_with(new);
                if server.settings.effective.is_none() {
                    server.settings.configured.clone_from(&spec.settings);
                }
                server.start()?;
                for database in &spec.databases {
                    let encoding = accounts::resolve_encoding(database)?;
                    server.databases.entry(database.name.clone()).or_insert(encoding);
                }
                spec.users.iter().for_each(|user| server.create_or_update_user(user));
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
        let removed = || Observed::new(Health::Down(Problem::new(Condition::Removed, "the server was removed")));
        Ok(world.servers.get(&self.instance).map_or_else(removed, Server::observe))
    }

    fn abilities(&self) -> Abilities<'_> {
        Abilities { accounts: Some(self), configuration: Some(self), upgrade: Some(self), resize: Some(self) }
    }
}
