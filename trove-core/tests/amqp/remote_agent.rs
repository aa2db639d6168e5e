//! Agents that run outside the service, each with only its configuration file.

use std::{
    collections::HashMap,
    fs::File,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trove_core::{
    Trove,
    conformance::memory::World,
    control::{InstanceHandle, NewInstance},
    error::Result,
    guest::{self, AgentConfig},
    id::InstanceId,
    model::{Condition, Endpoint, Health, Instance, NewUser, PageRequest, Problem},
    platform::{AgentSetup, Compute, Ensured, Placement, Platform},
    rpc::{Address, BrokerLogin, Transport},
    secret::ExposeSecret,
};

use crate::broker::RabbitMqContainer;

const TIMEOUT: Duration = Duration::from_secs(300);

/// Where the agent of a guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestPlacement {
    /// Outside the service.
    Remote,
    /// In the service process, so that its dropped frames are counted there too.
    InProcess,
}

/// An in-memory world whose guest agents are tasks that use only their configuration files.
#[derive(Clone)]
pub struct RemoteAgents {
    pub world: World,
    pub directory: Arc<TempDir>,
    running: Arc<Mutex<HashMap<InstanceId, RunningAgent>>>,
}

struct RunningAgent {
    stop: CancellationToken,
    task: JoinHandle<Result<()>>,
}

impl RemoteAgents {
    pub fn new() -> Self {
        Self { world: World::new(), directory: Arc::new(tempfile::tempdir().unwrap()), running: Arc::default() }
    }

    pub fn platform(&self) -> Platform {
        let mut platform = self.world.platform();
        platform.compute = Arc::new(self.clone());
        platform
    }

    /// Returns the path of an agent's configuration file.
    pub fn config_path(&self, instance: InstanceId) -> PathBuf {
        self.directory.path().join(instance.to_string())
    }

    /// Spawns an agent from its configuration file.
    fn spawn(&self, instance: InstanceId) -> RunningAgent {
        let configuration = AgentConfig::read(self.config_path(instance)).unwrap();
        let stop = CancellationToken::new();
        let agent = guest::serve(configuration, Arc::new(self.world.driver()), fast_settings(), stop.clone());
        RunningAgent { stop, task: tokio::spawn(agent) }
    }

    /// Stops the agent of an instance and returns its result.
    pub async fn stop(&self, instance: InstanceId) -> Option<Result<()>> {
        let agent = self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&instance)?;
        agent.stop.cancel();
        Some(agent.task.await.unwrap())
    }

    /// Starts the agent of an instance again.
    pub fn restart(&self, instance: InstanceId) {
        let agent = self.spawn(instance);
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(instance, agent);
    }

    /// Returns the in-process placement of an instance, and writes the configuration file of a
    /// remote agent.
    pub async fn place_in_process(
        &self,
        instance: &Instance,
        endpoint: &Endpoint,
        agent: Option<&AgentSetup>,
    ) -> Result<Ensured<Placement>> {
        let mut placed = self.world.platform().compute.ensure_compute(instance, endpoint, None).await?;
        if let Ensured::Ready(Placement::InProcess(host)) = &mut placed {
            host.directory = self.directory.path().join(format!("{}.d", instance.id));
            std::fs::create_dir_all(&host.directory).unwrap();
            if let Some(setup) = agent {
                assert!(!format!("{setup:?}").contains("key"), "{setup:?}");
                let file = File::options()
                    .create(true)
                    .truncate(true)
                    .write(true)
                    .mode(0o600)
                    .open(self.config_path(instance.id));
                file.unwrap().write_all(setup.config_file(host)?.expose_secret().as_bytes()).unwrap();
            }
        }
        Ok(placed)
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
        let placed = self.place_in_process(instance, endpoint, agent).await?;
        // The service itself runs the agent of a scratch server.
        if agent.is_none() || matches!(placed, Ensured::Pending(_)) {
            return Ok(placed);
        }
        let is_running = |agent: &RunningAgent| !agent.task.is_finished();
        if !self.running.lock().unwrap_or_else(PoisonError::into_inner).get(&instance.id).is_some_and(is_running) {
            self.restart(instance.id);
        }
        Ok(Ensured::Ready(Placement::Remote))
    }

    async fn release_compute(&self, instance: InstanceId) -> Result<()> {
        self.stop(instance).await;
        self.world.platform().compute.release_compute(instance).await
    }
}

pub fn fast_settings() -> guest::AgentSettings {
    guest::AgentSettings { observe_every: Duration::from_millis(10), ..guest::AgentSettings::default() }
}

async fn start(agents: &RemoteAgents, store: &str) -> Trove {
    let service = crate::builder().await.store(store).platform(agents.platform()).datastore(agents.world.driver());
    service.start().await.unwrap()
}

/// Returns the number of users, retrying until the service reaches the guest.
pub async fn users(instance: &InstanceHandle) -> usize {
    loop {
        match instance.accounts().users(PageRequest::default()).await {
            Err(error) if error.is_transient() => tokio::time::sleep(crate::POLL_INTERVAL).await,
            users => return users.unwrap().items.len(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_agent_survives_its_control_plane_and_its_server_survives_the_agent() {
    let agents = RemoteAgents::new();
    let store = format!("sqlite:{}", agents.directory.path().join("trove.db").display());
    let trove = start(&agents, &store).await;
    let new = NewInstance::new("orders", "memory").database("app").user("app", "secret");
    let instance = trove.create(new).await.unwrap().active().await.unwrap();
    assert_eq!((users(&instance).await, instance.health.clone()), (1, Health::Healthy));

    // The server keeps running without its agent, and the next agent takes over.
    assert!(agents.stop(instance.id).await.unwrap().is_ok());
    assert!(agents.world.serves(instance.id, &["app"], &["app"]));
    agents.restart(instance.id);
    assert_eq!(users(&instance).await, 1);
    instance.accounts().create_users([NewUser::new("two", "2")]).await.unwrap();

    // The agent keeps running without its control plane, and serves the next control plane.
    instance.stop().await.unwrap().wait().await.unwrap();
    trove.shut_down().await;
    let trove = start(&agents, &store).await;
    let instance = trove.instance(instance.id).await.unwrap();
    instance.start().await.unwrap().active().await.unwrap();
    assert_eq!(users(&instance).await, 2);

    // The configuration file was written while the server was stopped, but the persisted agent state
    // takes precedence.
    agents.stop(instance.id).await.unwrap().unwrap();
    let killed = Problem::new(Condition::Killed, "the server was killed");
    agents.world.break_server(instance.id, Health::Down(killed));
    agents.restart(instance.id);
    let restarted = async {
        while !agents.world.serves(instance.id, &["app"], &["app", "two"]) {
            tokio::time::sleep(crate::POLL_INTERVAL).await;
        }
    };
    tokio::time::timeout(TIMEOUT, restarted).await.expect("the server was not restarted");

    instance.delete().await.unwrap().wait().await.unwrap();
    assert_eq!(agents.world.leftovers(), [""; 0]);
    trove.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_agent_adopts_a_rotated_identity_and_the_old_one_is_rejected() {
    let agents = RemoteAgents::new();
    let store = format!("sqlite:{}", agents.directory.path().join("trove.db").display());
    let (trove, broker) = (start(&agents, &store).await, RabbitMqContainer::shared().await);
    let new = NewInstance::new("orders", "memory").database("app").user("app", "secret");
    let instance = trove.create(new).await.unwrap().active().await.unwrap();
    let id = instance.id;
    let file = agents.config_path(id);
    let stolen = std::fs::read(&file).unwrap();
    let login = |text: &[u8]| {
        let config: serde_json::Value = serde_json::from_slice(text).unwrap();
        let of = |name: &str| config["guest"]["broker"][name].as_str().unwrap().to_owned();
        broker.with_login(BrokerLogin::new(of("user"), of("password")))
    };
    assert!(login(&stolen).send(&Address::control(id), vec![0; 100]).await.is_ok());

    instance.rotate_identity().await.unwrap().wait().await.unwrap();
    assert_eq!(users(&instance).await, 1);
    let error = login(&stolen).send(&Address::control(id), vec![0; 100]).await.unwrap_err();
    assert!(error.report().contains("ACCESS_REFUSED"), "{}", error.report());

    // The persisted identity takes precedence over the configuration file.
    agents.stop(id).await.unwrap().unwrap();
    agents.restart(id);
    assert_eq!(users(&instance).await, 1);

    // The next control plane provides the rotated identity to an agent without state.
    trove.shut_down().await;
    agents.stop(id).await.unwrap().unwrap();
    std::fs::remove_file(agents.directory.path().join(format!("{id}.d/agent.state"))).unwrap();
    let trove = start(&agents, &store).await;
    let instance = trove.instance(id).await.unwrap();
    assert_eq!(users(&instance).await, 1);
    assert!(login(&std::fs::read(&file).unwrap()).send(&Address::control(id), vec![0; 100]).await.is_ok());
    instance.delete().await.unwrap().wait().await.unwrap();
    assert_eq!(broker.resources_of(&id.to_string()).await, [""; 0]);
    trove.shut_down().await;
}
