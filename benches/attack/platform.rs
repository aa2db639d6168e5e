//! A platform in memory on which some instances have remote agents.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use serde::Deserialize;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trove_core::{
    conformance::memory::World,
    error::{Error, Result},
    guest::{self, AgentConfig, AgentSettings},
    id::InstanceId,
    model::{Endpoint, Instance},
    platform::{AgentSetup, Compute, Ensured, Placement, Platform},
    secret::ExposeSecret,
};

use crate::hostile_guests::StolenIdentity;

/// The start of the names of instances with remote agents.
pub(super) const REMOTE: &str = "hostile";

/// The agents of instances whose names begin with [`REMOTE`] read their configurations from files,
/// as those in other processes.
#[derive(Clone)]
pub(super) struct RemoteAgents {
    world: World,
    directory: PathBuf,
    running: Arc<Mutex<HashMap<InstanceId, RunningAgent>>>,
}

struct RunningAgent {
    stop: CancellationToken,
    task: JoinHandle<Result<()>>,
}

/// The parts of a configuration file that an attacker is interested in.
#[derive(Deserialize)]
struct ConfigFile {
    guest: GuestSection,
}

#[derive(Deserialize)]
struct GuestSection {
    key: KeySection,
    broker: BrokerSection,
}

#[derive(Deserialize)]
struct KeySection {
    number: u32,
    text: String,
}

#[derive(Deserialize)]
struct BrokerSection {
    host: String,
    port: u16,
    user: String,
    password: String,
}

impl RemoteAgents {
    pub(super) fn new(world: &World, directory: PathBuf) -> Self {
        Self { world: world.clone(), directory, running: Arc::default() }
    }

    pub(super) fn platform(&self) -> Platform {
        let mut platform = self.world.platform();
        platform.compute = Arc::new(self.clone());
        platform
    }

    /// Stops the agent of an instance and returns what its configuration contains.
    pub(super) async fn take_over(&self, instance: InstanceId) -> trove_benches::Result<StolenIdentity> {
        self.stop(instance).await;
        let ConfigFile { guest } = serde_json::from_slice(&fs::read(self.config_path(instance))?)?;
        let (KeySection { number, text }, BrokerSection { host, port, user, password }) = (guest.key, guest.broker);
        Ok(StolenIdentity { instance, key_number: number, key: text, host, port, user, password })
    }

    async fn stop(&self, instance: InstanceId) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&instance);
        if let Some(agent) = running {
            agent.stop.cancel();
            // Its errors do not matter any more.
            let _ = agent.task.await;
        }
    }

    fn config_path(&self, instance: InstanceId) -> PathBuf {
        self.directory.join(instance.to_string()).join("agent.json")
    }

    fn start(&self, instance: InstanceId, text: &str) -> std::io::Result<()> {
        let path = self.config_path(instance);
        let mut file = fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(&path)?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        let config = AgentConfig::read(path).map_err(std::io::Error::other)?;
        let stop = CancellationToken::new();
        let driver = Arc::new(self.world.driver());
        let task = tokio::spawn(guest::serve(config, driver, AgentSettings::default(), stop.clone()));
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(instance, RunningAgent { stop, task });
        Ok(())
    }
}

#[async_trait]
impl Compute for RemoteAgents {
    async fn ensure_compute(
        &self,
        instance: &Instance,
        endpoint: &Endpoint,
        agent: Option<&AgentSetup>,
    ) -> Result<Ensured<Placement>> {
        let mut placed = self.world.platform().compute.ensure_compute(instance, endpoint, None).await?;
        let (Ensured::Ready(Placement::InProcess(host)), Some(agent)) = (&mut placed, agent) else { return Ok(placed) };
        if !instance.name.starts_with(REMOTE) {
            return Ok(placed);
        }
        let is_running = self.running.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&instance.id);
        if !is_running {
            host.directory = self.directory.join(instance.id.to_string());
            let text = agent.config_file(host)?;
            let started =
                fs::create_dir_all(&host.directory).and_then(|()| self.start(instance.id, text.expose_secret()));
            started.map_err(|error| Error::internal("could not start an agent").with_source(error))?;
        }
        Ok(Ensured::Ready(Placement::Remote))
    }

    async fn release_compute(&self, instance: InstanceId) -> Result<()> {
        self.stop(instance).await;
        self.world.platform().compute.release_compute(instance).await
    }
}
