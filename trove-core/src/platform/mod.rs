//! The infrastructure contract: where instances get their compute, volumes and networks from.
//!
//! Every call is `ensure_*` or `release_*`, finds its resource by the [name](resource_name) derived from the instance's
//! id, and may be repeated: an `ensure` that finds what it would make returns it, a `release` that finds nothing is
//! `Ok`. What takes long is [`Ensured::Pending`] and asked again later, so that waiting holds nothing.

mod chaos;

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

/// The infrastructure that instances are made of.
#[derive(Clone)]
pub struct Platform {
    /// Where guests run.
    pub compute: Arc<dyn Compute>,
    /// Where their data lives.
    pub volumes: Arc<dyn Volumes>,
    /// How they are reached.
    pub networks: Arc<dyn Networks>,
}

/// What an `ensure_*` call found or made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ensured<T> {
    /// It is there.
    Ready(T),
    /// It is being made; ask again after this long.
    Pending(Duration),
}

/// Volumes.
#[async_trait]
pub trait Volumes: Send + Sync {
    /// Makes sure the instance has a volume of this size. [`NoSpace`](crate::error::Kind::NoSpace) where it cannot be had.
    async fn ensure_volume(&self, instance: InstanceId, size: ByteSize) -> Result<Ensured<()>>;

    /// Removes the instance's volume with all it holds.
    async fn release_volume(&self, instance: InstanceId) -> Result<()>;
}

/// Networks.
#[async_trait]
pub trait Networks: Send + Sync {
    /// Makes sure the instance has an address, the same at every call; `public` where other machines are to reach it.
    async fn ensure_endpoint(&self, instance: InstanceId, public: bool) -> Result<Ensured<Endpoint>>;

    /// Gives the instance's address back.
    async fn release_endpoint(&self, instance: InstanceId) -> Result<()>;
}

/// Compute.
#[async_trait]
pub trait Compute: Send + Sync {
    /// Makes sure the instance has a place to run, with its volume and endpoint, which are ready; where they are not it is
    /// [`Conflict`](crate::error::Kind::Conflict). Where there is an `agent`, the platform may run it there, and then sees to
    /// it that it runs, one of it, until the place is given back.
    async fn ensure_compute(
        &self,
        instance: &Instance,
        endpoint: &Endpoint,
        agent: Option<&AgentSetup>,
    ) -> Result<Ensured<Placement>>;

    /// Removes the instance's place. Its guest has been removed before.
    async fn release_compute(&self, instance: InstanceId) -> Result<()>;
}

/// Where the guest agent of an instance lives.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Placement {
    /// In this process, beside a host of this description.
    InProcess(Box<GuestHost>),
    /// Where the platform runs it.
    Elsewhere,
}

/// What the agent of an instance is told that lives elsewhere: who it is and how it reaches the control plane.
#[derive(Clone)]
pub struct AgentSetup(SecretString);

impl AgentSetup {
    #[cfg(all(feature = "amqp", any(feature = "sqlite", feature = "postgres")))]
    pub(crate) fn new(text: SecretString) -> Self {
        Self(text)
    }

    /// The [configuration](crate::guest::Configuration) of the agent beside this host, as the text of a file that only the
    /// agent may read.
    pub fn beside(&self, host: &GuestHost) -> Result<SecretString> {
        Ok(format!("{{\"guest\":{},\"host\":{}}}\n", self.0.expose_secret(), host.to_json()?).into())
    }
}

impl fmt::Debug for AgentSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AgentSetup([redacted])")
    }
}
