//! What only tests do with containers.

use bollard::query_parameters::KillContainerOptionsBuilder;
use trove_core::error::{Error, Result};

use super::{Action, DEADLINE, Docker};

impl Docker {
    /// The same engine with connections of its own, for another runtime.
    pub(crate) fn anew(&self) -> Self {
        Self::new(self.0.address.clone())
    }

    /// OomKills a container's processes.
    pub(crate) async fn kill(&self, container: &str) -> Result<()> {
        let name = container.to_owned();
        let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        let kill = |client: bollard::Docker| async move { client.kill_container(&name, Some(options)).await };
        self.write(Action::Container(container.to_owned()), DEADLINE, (), kill).await?;
        self.ended(container).await.map(drop)
    }

    /// Suspends a container's processes.
    pub(crate) async fn pause(&self, container: &str) -> Result<()> {
        let name = container.to_owned();
        let pause = |client: bollard::Docker| async move { client.pause_container(&name).await };
        self.write(Action::Container(container.to_owned()), DEADLINE, (), pause).await
    }

    /// All that the daemon tells of a container, as JSON, and the id of its first process while it runs.
    pub(crate) async fn described(&self, container: &str) -> Result<(String, Option<u32>)> {
        let look = |client: bollard::Docker| async move { client.inspect_container(container, None).await };
        let found = self.read(Action::Container(container.to_owned()), DEADLINE, look).await?;
        let pid = found.state.as_ref().and_then(|state| u32::try_from(state.pid?).ok()).filter(|pid| *pid != 0);
        let told = serde_json::to_string(&found);
        Ok((told.map_err(|error| Error::internal("a container cannot be described").because(error))?, pid))
    }
}
