use std::time::Duration;

use async_trait::async_trait;

use super::Agents;
use crate::{
    error::{Error, Result},
    id::InstanceId,
    model::{ByteSize, Flavor, Instance, mib},
    platform::Platform,
    secret::SecretString,
    time::Timestamp,
};

/// A platform under test, with nothing on it: what the suite has to do behind its back.
#[async_trait]
pub trait Testbed: Send + Sync + 'static {
    /// The platform, as a process has it that has just begun. Those that were opened before are used no more.
    async fn open(&self) -> Result<Platform>;

    /// All that there is on the platform, each in words.
    async fn leftovers(&self) -> Result<Vec<String>>;

    /// Writes a text into the instance's volume, as its server would.
    async fn put(&self, instance: InstanceId, text: &str) -> Result<()>;

    /// Reads what was written; `None` where nothing was.
    async fn get(&self, instance: InstanceId) -> Result<Option<String>>;

    /// The agents of the instances, where the platform runs them elsewhere.
    fn agents(&self) -> Option<&Agents> {
        None
    }

    /// The configuration of the agent that the platform runs for this instance. Asked where there are agents.
    async fn configuration(&self, _instance: InstanceId) -> Result<SecretString> {
        Err(Error::internal("the testbed does not see what its agents are told"))
    }

    /// An instance that the platform could carry. The suite changes its texts.
    fn instance(&self) -> Instance {
        let flavor = Flavor::new("small", mib(256), 1);
        let mut instance =
            Instance::new(InstanceId::new_v4(), "orders", "memory", flavor, mib(1), Timestamp::UNIX_EPOCH);
        instance.version_number = "1".to_owned();
        instance.image = "memory:1".to_owned();
        instance
    }

    /// A size that no volume can have; `None` where the platform takes any.
    fn too_large(&self) -> Option<ByteSize> {
        Some(ByteSize::bytes(u64::MAX))
    }

    /// How long one case may take.
    fn case_timeout(&self) -> Duration {
        Duration::from_secs(600)
    }
}
