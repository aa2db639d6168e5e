//! A [`World`] as the testbed of the platform suite.

use async_trait::async_trait;

use super::{World, server::Server};
use crate::{
    conformance::platform::PlatformTestbed,
    datastore::{GuestHost, Release},
    error::{Error, Result},
    id::InstanceId,
    platform::Platform,
};

#[async_trait]
impl PlatformTestbed for World {
    async fn open(&self) -> Result<Platform> {
        Ok(self.crash().platform())
    }

    async fn leftovers(&self) -> Result<Vec<String>> {
        Ok(World::leftovers(self))
    }

    async fn write_volume(&self, instance: InstanceId, text: &str) -> Result<()> {
        let mut inner = self.inner();
        let volume = inner
            .volumes
            .get_mut(&instance)
            .ok_or_else(|| Error::not_found(format!("instance {instance} has no volume")))?;
        *volume = Some(text.to_owned());
        Ok(())
    }

    async fn read_volume(&self, instance: InstanceId) -> Result<Option<String>> {
        Ok(self.inner().volumes.get(&instance).cloned().flatten())
    }

    async fn start_server(&self, host: &GuestHost) -> Result<()> {
        let server = Server::new(&Release::new(&host.version, &host.image), host.flavor.memory);
        self.inner().servers.insert(host.instance, server);
        Ok(())
    }
}
