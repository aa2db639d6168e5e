use std::time::Duration;

use async_trait::async_trait;

use super::Agents;
use crate::{
    datastore::GuestHost,
    error::{Error, Result},
    id::InstanceId,
    model::{ByteSize, Flavor, Instance, mib},
    platform::Platform,
    secret::SecretString,
    time::Timestamp,
};

/// An empty platform under test, and access to its resources that bypasses it.
#[async_trait]
pub trait PlatformTestbed: Send + Sync + 'static {
    /// Opens the platform as a new process would. Platforms that were opened before are not used
    /// any more.
    async fn open(&self) -> Result<Platform>;

    /// Describes each resource that exists on the platform.
    async fn leftovers(&self) -> Result<Vec<String>>;

    /// Writes a text into the instance's volume, as its server would.
    async fn write_volume(&self, instance: InstanceId, text: &str) -> Result<()>;

    /// Returns the text that was written; `None` if there is none.
    async fn read_volume(&self, instance: InstanceId) -> Result<Option<String>>;

    /// Starts a server on the compute of an instance. Nobody asks it to end, as if its guest refused
    /// to remove it.
    async fn start_server(&self, host: &GuestHost) -> Result<()>;

    /// Returns the control plane of the agents, if the platform runs them remotely.
    fn agents(&self) -> Option<&Agents> {
        None
    }

    /// Returns the configuration file of the instance's agent. Called only if there are
    /// [`agents`](Self::agents).
    async fn agent_config(&self, _instance: InstanceId) -> Result<SecretString> {
        Err(Error::internal("the testbed cannot read the configuration of its agents"))
    }

    /// Returns an instance that fits on the platform. The suite changes its texts.
    fn instance(&self) -> Instance {
        let flavor = Flavor::new("small", mib(256), 1);
        let mut instance =
            Instance::new(InstanceId::new_v4(), "orders", "memory", flavor, mib(1), Timestamp::UNIX_EPOCH);
        instance.version_number = "1".to_owned();
        instance.image = "memory:1".to_owned();
        instance
    }

    /// Returns a volume size that the platform must reject; `None` if it accepts any size.
    fn oversized_volume(&self) -> Option<ByteSize> {
        Some(ByteSize::bytes(u64::MAX))
    }

    /// Returns the time limit of one case.
    fn case_timeout(&self) -> Duration {
        Duration::from_secs(600)
    }
}
