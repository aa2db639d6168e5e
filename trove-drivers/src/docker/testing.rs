//! Container operations for tests only.

use bollard::query_parameters::KillContainerOptionsBuilder;
use trove_core::error::{Error, Result};

use super::{DEADLINE, Docker, DockerRequest};

impl Docker {
    /// Returns a handle to the same engine with its own connections, for another runtime.
    pub(crate) fn reconnect(&self) -> Self {
        Self::new(self.0.address.clone())
    }

    /// Kills the processes of a container.
    pub(crate) async fn kill(&self, container: &str) -> Result<()> {
        let name = container.to_owned();
        let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        let kill = |client: bollard::Docker| async move { client.kill_container(&name, Some(options)).await };
        self.write(DockerRequest::Container(container.to_owned()), DEADLINE, (), kill).await?;
        self.ended(container).await.map(drop)
    }

    /// Pauses the processes of a container.
    pub(crate) async fn pause(&self, container: &str) -> Result<()> {
        let name = container.to_owned();
        let pause = |client: bollard::Docker| async move { client.pause_container(&name).await };
        self.write(DockerRequest::Container(container.to_owned()), DEADLINE, (), pause).await
    }

    /// Returns the daemon's description of a container as JSON, and the id of its first process if
    /// it is running.
    pub(crate) async fn described(&self, container: &str) -> Result<(String, Option<u32>)> {
        let look = |client: bollard::Docker| async move { client.inspect_container(container, None).await };
        let found = self.read(DockerRequest::Container(container.to_owned()), DEADLINE, look).await?;
        let pid = found.state.as_ref().and_then(|state| u32::try_from(state.pid?).ok()).filter(|pid| *pid != 0);
        let json = serde_json::to_string(&found);
        Ok((
            json.map_err(|error| {
                Error::internal("could not serialize the description of a container").with_source(error)
            })?,
            pid,
        ))
    }
}
