//! The infrastructure contract: how instances get compute, volumes and networks.
//!
//! Every call is named `ensure_*` or `release_*`, finds its resource by the [name](resource_name)
//! that is derived from the id of the instance, and is idempotent: `ensure` returns an existing
//! resource, `release` of an absent one is `Ok`. A call that would take long returns
//! [`Ensured::Pending`] and is repeated later, so that no task waits for it.

mod fault_injection;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

pub use crate::datastore::resource_name;
use crate::{
    datastore::GuestHost,
    error::Result,
    id::InstanceId,
    model::{ByteSize, Endpoint, Instance},
    secret::{ExposeSecret, SecretString},
};

/// The infrastructure that instances run on.
#[derive(Clone)]
pub struct Platform {
    /// Provides compute for guests.
    pub compute: Arc<dyn Compute>,
    /// Provides volumes for their data.
    pub volumes: Arc<dyn Volumes>,
    /// Provides their endpoints.
    pub networks: Arc<dyn Networks>,
}

/// The result of an `ensure_*` call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ensured<T> {
    /// The resource is ready.
    Ready(T),
    /// The resource is being created; repeat the call after this delay.
    Pending(Duration),
}

/// The requirements of an instance for its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointRequest {
    /// Whether the endpoint is reachable from other machines.
    pub public: bool,
    /// The port that clients of the engine expect. The endpoint has this port if the platform can
    /// provide it.
    pub port: u16,
}

/// Manages volumes.
#[async_trait]
pub trait Volumes: Send + Sync {
    /// Ensures that the instance has a volume of this size.
    /// [`NoSpace`](crate::error::Kind::NoSpace) if there is not enough space.
    async fn ensure_volume(&self, instance: InstanceId, size: ByteSize) -> Result<Ensured<()>>;

    /// Deletes the volume of the instance with its data.
    async fn release_volume(&self, instance: InstanceId) -> Result<()>;
}

/// Manages endpoints.
#[async_trait]
pub trait Networks: Send + Sync {
    /// Ensures that the instance has an endpoint and returns the same one at every call.
    async fn ensure_endpoint(&self, instance: InstanceId, request: EndpointRequest) -> Result<Ensured<Endpoint>>;

    /// Releases the endpoint of the instance.
    async fn release_endpoint(&self, instance: InstanceId) -> Result<()>;
}

/// Manages compute.
#[async_trait]
pub trait Compute: Send + Sync {
    /// Ensures that the instance has compute with its volume and endpoint, which must be ready;
    /// otherwise returns [`Conflict`](crate::error::Kind::Conflict). If there is an `agent` setup,
    /// the platform may run the agent, and then keeps exactly one running until the compute is
    /// released.
    async fn ensure_compute(
        &self,
        instance: &Instance,
        endpoint: &Endpoint,
        agent: Option<&AgentSetup>,
    ) -> Result<Ensured<Placement>>;

    /// Releases the compute of the instance, with its agent and everything that runs on it. The
    /// agent has been asked to remove its server, but may have refused or not answered.
    async fn release_compute(&self, instance: InstanceId) -> Result<()>;
}

/// Where the guest agent of an instance runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Placement {
    /// In this process, managing a server on this host.
    InProcess(Box<GuestHost>),
    /// In a separate process that the platform runs.
    Remote,
}

/// The setup of a remote agent: its identity, and how it connects to the control plane.
#[derive(Clone)]
pub struct AgentSetup(SecretString);

impl AgentSetup {
    #[cfg(feature = "amqp")]
    pub(crate) fn new(text: SecretString) -> Self {
        Self(text)
    }

    /// Returns the text of the [configuration file](crate::guest::AgentConfig) of the agent on this
    /// host. Only the agent may read the file.
    pub fn config_file(&self, host: &GuestHost) -> Result<SecretString> {
        Ok(format!("{{\"guest\":{},\"host\":{}}}\n", self.0.expose_secret(), host.to_json()?).into())
    }
}

impl fmt::Debug for AgentSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AgentSetup([redacted])")
    }
}
