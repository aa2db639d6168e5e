use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::World;
use crate::{
    datastore::GuestHost,
    error::{Error, Result},
    id::InstanceId,
    model::{ByteSize, Endpoint, Instance, gib},
    platform::{AgentSetup, Compute, EndpointRequest, Ensured, Networks, Placement, Platform, Volumes},
};

/// The maximum size of a volume.
const MAX_VOLUME: ByteSize = gib(1 << 20);

/// An in-memory platform. Compute becomes ready at the second call, as in a cloud.
#[derive(Clone)]
pub struct MemoryPlatform(World);

impl MemoryPlatform {
    pub(super) fn new(world: World) -> Self {
        Self(world)
    }
}

impl From<MemoryPlatform> for Platform {
    fn from(platform: MemoryPlatform) -> Self {
        let platform = Arc::new(platform);
        Self { compute: platform.clone(), volumes: platform.clone(), networks: platform }
    }
}

#[async_trait]
impl Volumes for MemoryPlatform {
    async fn ensure_volume(&self, instance: InstanceId, size: ByteSize) -> Result<Ensured<()>> {
        self.0
            .call(|world| {
                if size > MAX_VOLUME {
                    return Err(Error::no_space(format!("a volume of {size} exceeds the maximum of {MAX_VOLUME}")));
                }
                world.volumes.entry(instance).or_default();
                Ok(Ensured::Ready(()))
            })
            .await
    }

    async fn release_volume(&self, instance: InstanceId) -> Result<()> {
        self.0
            .call(|world| {
                world.volumes.remove(&instance);
                Ok(())
            })
            .await
    }
}

#[async_trait]
impl Networks for MemoryPlatform {
    async fn ensure_endpoint(&self, instance: InstanceId, _request: EndpointRequest) -> Result<Ensured<Endpoint>> {
        self.0
            .call(|world| {
                if !world.endpoints.contains_key(&instance) {
                    world.last_port += 1;
                    let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port: world.last_port };
                    world.endpoints.insert(instance, endpoint);
                }
                world
                    .endpoints
                    .get(&instance)
                    .cloned()
                    .map(Ensured::Ready)
                    .ok_or_else(|| Error::internal("the endpoint is missing"))
            })
            .await
    }

    async fn release_endpoint(&self, instance: InstanceId) -> Result<()> {
        self.0
            .call(|world| {
                world.endpoints.remove(&instance);
                Ok(())
            })
            .await
    }
}

#[async_trait]
impl Compute for MemoryPlatform {
    async fn ensure_compute(
        &self,
        instance: &Instance,
        endpoint: &Endpoint,
        _agent: Option<&AgentSetup>,
    ) -> Result<Ensured<Placement>> {
        let mut host = GuestHost::new(instance.id, "/nonexistent", "/nonexistent");
        host.endpoint = endpoint.clone();
        host.project.clone_from(&instance.project);
        host.volume_size = instance.volume;
        host.version.clone_from(&instance.version_number);
        host.image.clone_from(&instance.image);
        host.flavor = instance.flavor.clone();
        self.0
            .call(|world| {
                if world.endpoints.get(&instance.id) != Some(endpoint) || !world.volumes.contains_key(&instance.id) {
                    return Err(Error::conflict("compute requires an existing volume and endpoint"));
                }
                if world.computes.insert(instance.id) {
                    return Ok(Ensured::Pending(Duration::from_millis(1)));
                }
                Ok(Ensured::Ready(Placement::InProcess(Box::new(host))))
            })
            .await
    }

    async fn release_compute(&self, instance: InstanceId) -> Result<()> {
        self.0
            .call(|world| {
                world.computes.remove(&instance);
                world.servers.remove(&instance);
                Ok(())
            })
            .await
    }
}
