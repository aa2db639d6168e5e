use std::{fs, sync::Arc};

use async_trait::async_trait;
use trove_core::{
    datastore::GuestHost,
    error::{Error, Result},
    id::InstanceId,
    model::{Endpoint, Instance},
    platform::{AgentSetup, Compute, Ensured, Placement},
};

use super::{LocalPlatform, agents, server_identity};
use crate::container::{INSTANCE_LABEL, SCOPE_LABEL, blocking, failed, own};

/// How often the directory of an instance is cleared if agents keep starting in it.
const MAX_CLEARINGS: usize = 4;

/// Compute is a directory for the agent, which runs in this process or in its own.
#[async_trait]
impl Compute for LocalPlatform {
    /// Fails with [`Unsupported`](trove_core::error::Kind::Unsupported) if the Docker Engine remaps
    /// user ids: the agent could then neither own a server's files nor be authenticated by it.
    async fn ensure_compute(
        &self,
        instance: &Instance,
        endpoint: &Endpoint,
        agent: Option<&AgentSetup>,
    ) -> Result<Ensured<Placement>> {
        if self.0.docker.host().await?.remaps_users {
            let why = "the Docker Engine runs rootless or remaps users; databases need one that does neither";
            return Err(Error::unsupported(why));
        }
        let directory = self.0.guest(instance.id);
        let mut host = GuestHost::new(instance.id, self.0.volume(instance.id), &directory);
        host.project = instance.project.clone();
        host.scope = self.0.scope.clone();
        host.version = instance.version_number.clone();
        host.image = instance.image.clone();
        host.flavor = instance.flavor.clone();
        host.volume_size = instance.volume;
        host.shared = Some(self.0.shared());
        host.server = server_identity(instance.id);
        host.network = self.0.network();
        host.endpoint = endpoint.clone();
        let (local, id, endpoint) = (Arc::clone(&self.0), instance.id, endpoint.clone());
        blocking(move || {
            if !local.volume(id).exists() || !local.has_endpoint(id, &endpoint)? {
                return Err(Error::conflict("compute was requested before the volume and the endpoint"));
            }
            let made = fs::create_dir_all(&directory).and_then(|()| own(&directory, None, None, 0o700));
            made.map_err(|error| failed("create the directory of the agent", &directory, error))
        })
        .await?;
        let (Some(agents), Some(setup)) = (&self.0.agents, agent) else {
            // An agent process may be left from an earlier configuration.
            agents::stop_unsupervised(&host.directory).await?;
            return Ok(Ensured::Ready(Placement::InProcess(Box::new(host))));
        };
        agents.ensure(instance.id, &host.directory, setup.config_file(&host)?).await?;
        Ok(Ensured::Ready(Placement::Remote))
    }

    /// Also removes containers of a request that was in flight when the guest was removed.
    async fn release_compute(&self, instance: InstanceId) -> Result<()> {
        if let Some(agents) = &self.0.agents {
            agents.end(instance).await;
        }
        let labels = [(INSTANCE_LABEL, instance.to_string()), (SCOPE_LABEL, self.0.scope.clone())];
        let labels = labels.each_ref().map(|(key, value)| (*key, value.as_str()));
        for _ in 0..MAX_CLEARINGS {
            agents::stop_unsupervised(&self.0.guest(instance)).await?;
            for container in self.0.docker.labelled(&labels).await? {
                self.0.docker.remove(&container).await?;
            }
            let local = Arc::clone(&self.0);
            let discard = move || {
                let directory = local.guest(instance);
                // An agent that starts now would run in a directory where nobody finds it.
                local.trash.discard(&directory, "guest", instance, || agents::prevent_start(&directory))
            };
            if blocking(discard).await? {
                return Ok(());
            }
        }
        Err(Error::unavailable("agents of the instance keep starting"))
    }
}
