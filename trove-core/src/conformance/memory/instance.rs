//! The handle that all abilities are implemented for.

use super::{Inner, Server, World};
use crate::{
    datastore::{AccountRules, Release},
    error::{Error, Result},
    id::InstanceId,
    model::Flavor,
};

/// A handle of one instance's server.
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

    /// Acts on a server that takes questions.
    pub(super) async fn on_server<T>(&self, act: impl FnOnce(&mut Server) -> Result<T> + Send) -> Result<T> {
        self.world
            .call(|world| {
                let server = self.server(world)?;
                if !server.answers() {
                    return Err(Error::unavailable("the server does not answer"));
                }
                act(server)
            })
            .await
    }
}
