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

use crate::broker::RabbitMq;
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

const TIMEOUT: Duration = Duration::from_secs(300);

/// Where the agent of a guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestPlacement {
    /// Outside the service.
    Remote,
    /// In the service process, so that its dropped frames are counted there too.
    InProcess,
}

/// An in-memory world whose guest agents are tasks that know only their configuration files.
#[derive(Clone)]
pub struct RemoteAgents {
    pub world: World,
    pub directory: Arc<TempDir>,
    agents: Arc<Mutex<HashMap<InstanceId, Agent>>>,
}

struct Agent {
    stop: CancellationToken,
    task: JoinHandle<Result<()>>,
}

impl RemoteAgents {
    pub fn new() -> Self {
        Self { world: World::new(), directory: Arc::new(tempfile::tempdir().unwrap()), agents: Arc::default() }
    }

    pub fn platform(&self) -> Platform {
        let mut platform = self.world.platform();
        platform.compute = Arc::new(self.clone());
        platform
    }

    /// Returns the path of an agent's configuration file.
    pub fn file(&self, instance: InstanceId) -> PathBuf {
        self.directory.path().join(instance.to_string())
    }

    /// Starts an agent from its configuration file.
    fn begin(&self, instance: InstanceId) -> Agent {
        let configuration = AgentConfig::read(self.file(instance)).unwrap();
        let stop = CancellationToken::new();
        let agent = guest::serve(configuration, Arc::new(self.world.driver()), fast_settings(), stop.clone());
        Agent { stop, task: tokio::spawn(agent) }
    }

    /// Stops the agent of an instance and returns its result.
    pub async fn end(&self, instance: InstanceId) -> Option<Result<()>> {
        let agent = self.agents.lock().unwrap_or_else(PoisonError::into_inner).remove(&instance)?;
        agent.stop.cancel();
        Some(agent.task.await.unwrap())
    }

    /// Starts the agent of an instance again.
    pub fn restart(&self, instance: InstanceId) {
        let agent = self.begin(instance);
        self.agents.lock().unwrap_or_else(PoisonError::into_inner).insert(instance, agent);
    }

    /// Creates the in-process placement of an instance, and the configuration file for a remote
    /// agent.
    pub async fn place(
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
                let file =
                    File::options().create(true).truncate(true).write(true).mode(0o600).open(self.file(instance.id));
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
        let placed = self.place(instance, endpoint, agent).await?;
        // The service itself runs the agent of a scratch server.
        if agent.is_none() || matches!(placed, Ensured::Pending(_)) {
            return Ok(placed);
        }
        let runs = |agent: &Agent| !agent.task.is_finished();
        if !self.agents.lock().unwrap_or_else(PoisonError::into_inner).get(&instance.id).is_some_and(runs) {
            self.restart(instance.id);
        }
        Ok(Ensured::Ready(Placement::Remote))
    }

    async fn release_compute(&self, instance: InstanceId) -> Result<()> {
        self.end(instance).await;
        self.world.platform().compute.release_compute(instance).await
    }
}

pub fn fast_settings() -> guest::AgentSettings {
    guest::AgentSettings { observe_every: Duration::from_millis(10), ..guest::AgentSettings::default() }
}

async fn start(apart: &RemoteAgents, store: &str) -> Trove {
    let service = crate::builder().await.store(store).platform(apart.platform()).datastore(apart.world.driver());
    service.start().await.unwrap()
}

/// Returns the number of users, retrying until the service reaches the guest.
pub async fn users(instance: &InstanceHandle) -> usize {
    loop {
        match instance.accounts().users(PageRequest::default()).await {
            Err(error) if error.is_transient() => tokio::task::yield_now().await,
            users => return users.unwrap().items.len(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_agent_survives_its_control_plane_and_its_server_survives_the_agent() {
    let apart = RemoteAgents::new();
    let store = format!("sqlite:{}", apart.directory.path().join("trove.db").display());
    let trove = start(&apart, &store).await;
    let new = NewInstance::new("orders", "memory").database("app").user("app", "secret");
    let instance = trove.create(new).await.unwrap().active().await.unwrap();
    assert_eq!((users(&instance).await, instance.health.clone()), (1, Health::Healthy));

    // Without its agent the server keeps running; the next agent takes over.
    assert!(apart.end(instance.id).await.unwrap().is_ok());
    assert!(apart.world.serves(instance.id, &["app"], &["app"]));
    apart.restart(instance.id);
    assert_eq!(users(&instance).await, 1);
    instance.accounts().create_users([NewUser::new("two", "2")]).await.unwrap();

    // Without its control plane the agent keeps running, and serves the next control plane.
    instance.stop().await.unwrap().wait().await.unwrap();
    trove.shut_down().await;
    let trove = start(&apart, &store).await;
    let instance = trove.instance(instance.id).await.unwrap();
    instance.start().await.unwrap().active().await.unwrap();
    assert_eq!(users(&instance).await, 2);

    // The configuration file was written while the server was stopped; the persisted agent state
    // overrides it.
    apart.end(instance.id).await.unwrap().unwrap();
    let killed = Problem::new(Condition::Killed, "behind the agent's back");
    apart.world.break_server(instance.id, Health::Down(killed));
    apart.restart(instance.id);
    let mended = async {
        while !apart.world.serves(instance.id, &["app"], &["app", "two"]) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(TIMEOUT, mended).await.expect("the server was not restarted");

    instance.delete().await.unwrap().wait().await.unwrap();
    assert_eq!(apart.world.leftovers(), [""; 0]);
    trove.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_agent_adopts_a_rotated_identity_and_the_old_one_is_rejected() {
    let apart = RemoteAgents::new();
    let store = format!("sqlite:{}", apart.directory.path().join("trove.db").display());
    let (trove, broker) = (start(&apart, &store).await, RabbitMq::shared().await);
    let new = NewInstance::new("orders", "memory").database("app").user("app", "secret");
    let instance = trove.create(new).await.unwrap().active().await.unwrap();
    let id = instance.id;
    let file = apart.file(id);
    let stolen = std::fs::read(&file).unwrap();
    let login = |text: &[u8]| {
        let told: serde_json::Value = serde_json::from_slice(text).unwrap();
        let of = |name: &str| told["guest"]["broker"][name].as_str().unwrap().to_owned();
        broker.with_login(BrokerLogin::new(of("user"), of("password")))
    };
    assert!(login(&stolen).send(&Address::control(id), vec![0; 100]).await.is_ok());

    instance.rotate_identity().await.unwrap().wait().await.unwrap();
    assert_eq!(users(&instance).await, 1);
    let refused = login(&stolen).send(&Address::control(id), vec![0; 100]).await.unwrap_err();
    assert!(refused.report().contains("ACCESS_REFUSED"), "{}", refused.report());

    // The persisted identity overrides that in the configuration file.
    apart.end(id).await.unwrap().unwrap();
    apart.restart(id);
    assert_eq!(users(&instance).await, 1);

    // The next control plane knows the identity too, and provides it to an agent without state.
    trove.shut_down().await;
    apart.end(id).await.unwrap().unwrap();
    std::fs::remove_file(apart.directory.path().join(format!("{id}.d/agent.notes"))).unwrap();
    let trove = start(&apart, &store).await;
    let instance = trove.instance(id).await.unwrap();
    assert_eq!(users(&instance).await, 1);
    assert!(login(&std::fs::read(&file).unwrap()).send(&Address::control(id), vec![0; 100]).await.is_ok());
    instance.delete().await.unwrap().wait().await.unwrap();
    assert_eq!(broker.resources_of(&id.to_string()), [""; 0]);
    trove.shut_down().await;
}
