use std::{fmt, sync::Arc};

use async_trait::async_trait;

use super::{AgentSetup, Compute, EndpointRequest, Ensured, Networks, Placement, Platform, Volumes};
use crate::{
    error::Result,
    id::InstanceId,
    layer::{CallInfo, FaultInjector},
    model::{ByteSize, Endpoint, Instance},
};

/// A platform whose calls are subject to fault injection.
struct FaultInjecting {
    inner: Platform,
    injector: FaultInjector,
}

impl Platform {
    /// Wraps the platform in fault injection. A call has the name of its method.
    #[must_use]
    pub fn with_fault_injection(self, injector: FaultInjector) -> Self {
        let injecting = Arc::new(FaultInjecting { inner: self, injector });
        Self { compute: injecting.clone(), volumes: injecting.clone(), networks: injecting }
    }
}

fn call<'a>(name: &'static str, arguments: &'a (dyn fmt::Debug + Send + Sync)) -> CallInfo<'a> {
    CallInfo { name, changes: true, arguments }
}

#[async_trait]
impl Volumes for FaultInjecting {
    async fn ensure_volume(&self, instance: InstanceId, size: ByteSize) -> Result<Ensured<()>> {
        let arguments = (instance, size);
        let call = call("ensure_volume", &arguments);
        self.injector.run(&call, &|| self.inner.volumes.ensure_volume(instance, size)).await
    }

    async fn release_volume(&self, instance: InstanceId) -> Result<()> {
        let call = call("release_volume", &instance);
        self.injector.run(&call, &|| self.inner.volumes.release_volume(instance)).await
    }
}

#[async_trait]
impl Networks for FaultInjecting {
    async fn ensure_endpoint(&self, instance: InstanceId, request: EndpointRequest) -> Result<Ensured<Endpoint>> {
        let arguments = (instance, request);
        let call = call("ensure_endpoint", &arguments);
        self.injector.run(&call, &|| self.inner.networks.ensure_endpoint(instance, request)).await
    }

    async fn release_endpoint(&self, instance: InstanceId) -> Result<()> {
        let call = call("release_endpoint", &instance);
        self.injector.run(&call, &|| self.inner.networks.release_endpoint(instance)).await
    }
}

#[async_trait]
impl Compute for FaultInjecting {
    async fn ensure_compute(
        &self,
        instance: &Instance,
        endpoint: &Endpoint,
        agent: Option<&AgentSetup>,
    ) -> Result<Ensured<Placement>> {
        let arguments = (instance, endpoint);
        let call = call("ensure_compute", &arguments);
        self.injector.run(&call, &|| self.inner.compute.ensure_compute(instance, endpoint, agent)).await
    }

    async fn release_compute(&self, instance: InstanceId) -> Result<()> {
        let call = call("release_compute", &instance);
        self.injector.run(&call, &|| self.inner.compute.release_compute(instance)).await
    }
}
