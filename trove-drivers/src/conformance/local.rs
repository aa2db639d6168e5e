//! The local platform for the platform suite.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use trove_core::{
    conformance::platform::{Agents, PlatformTestbed},
    datastore::GuestHost,
    error::{Error, Kind, Result},
    id::InstanceId,
    platform::Platform,
    secret::SecretString,
};

use crate::{
    Docker, LocalPlatform,
    container::{DIRECTORY_LABEL, INSTANCE_LABEL, SCOPE_LABEL, blocking},
    docker::{ContainerSpec, Network},
};

/// How long dropped calls may keep the directory of the previous platform locked.
const UNLOCK_TIMEOUT: Duration = Duration::from_secs(120);

/// The local platform in a temporary directory, for the [platform
/// suite](trove_core::conformance::platform).
pub struct LocalTestbed {
    directory: TempDir,
    /// The image of the servers.
    image: String,
    open: Mutex<Option<LocalPlatform>>,
    remote_agents: Option<RemoteAgents>,
}

/// Agents that run as separate processes.
struct RemoteAgents {
    program: PathBuf,
    agents: Agents,
}

impl LocalTestbed {
    /// Creates a testbed whose agents run in this process. Servers run `sleep`, which the image must
    /// have.
    ///
    /// # Errors
    ///
    /// [`Internal`](Kind::Internal) if no temporary directory can be created.
    pub fn new(image: impl Into<String>) -> Result<Self> {
        let directory = tempfile::tempdir().map_err(failed)?;
        Ok(Self { directory, image: image.into(), open: Mutex::default(), remote_agents: None })
    }

    /// Runs agents as processes of this program.
    #[must_use]
    pub fn agents(mut self, program: impl Into<PathBuf>, agents: Agents) -> Self {
        self.remote_agents = Some(RemoteAgents { program: program.into(), agents });
        self
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn text(&self, instance: InstanceId) -> PathBuf {
        self.root().join("volumes").join(instance.to_string()).join("deep/text")
    }

    fn connect(&self) -> Result<LocalPlatform> {
        let builder = LocalPlatform::builder(self.root());
        match &self.remote_agents {
            Some(agents) => builder.agent_program(&agents.program).agent_environment(std::env::vars_os()).connect(),
            None => builder.connect(),
        }
    }

    fn open(&self) -> MutexGuard<'_, Option<LocalPlatform>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl PlatformTestbed for LocalTestbed {
    async fn open(&self) -> Result<Platform> {
        *LocalTestbed::open(self) = None;
        let started = Instant::now();
        loop {
            match self.connect() {
                Ok(opened) => return Ok(LocalTestbed::open(self).insert(opened).clone().into()),
                Err(error) if error.kind() == Kind::Conflict && started.elapsed() < UNLOCK_TIMEOUT => {}
                Err(error) => return Err(error),
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn leftovers(&self) -> Result<Vec<String>> {
        let open = LocalTestbed::open(self).clone();
        let mut leftovers = open.ok_or_else(|| Error::internal("the platform is not open"))?.inventory().await?;
        let root = self.root();
        leftovers.extend(blocking(move || processes(&root).map_err(failed)).await?);
        Ok(leftovers)
    }

    async fn write_volume(&self, instance: InstanceId, text: &str) -> Result<()> {
        let (path, text) = (self.text(instance), text.to_owned());
        let directory = path.parent().map(Path::to_owned).unwrap_or_default();
        blocking(move || fs::create_dir_all(directory).and_then(|()| fs::write(path, text)).map_err(failed)).await
    }

    async fn read_volume(&self, instance: InstanceId) -> Result<Option<String>> {
        let path = self.text(instance);
        blocking(move || match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some).map_err(failed),
        })
        .await
    }

    async fn start_server(&self, host: &GuestHost) -> Result<()> {
        let docker = Docker::connect();
        let labels = [
            (INSTANCE_LABEL, host.instance.to_string()),
            (SCOPE_LABEL, host.scope.clone()),
            (DIRECTORY_LABEL, host.directory.display().to_string()),
        ];
        let spec = ContainerSpec {
            name: host.name.clone(),
            image: self.image.clone(),
            command: ["sleep", "infinity"].map(str::to_owned).into(),
            environment: Vec::new(),
            user: format!("{}:{}", host.server.uid, host.server.gid),
            memory: host.flavor.memory.as_bytes(),
            shared_memory: host.flavor.memory.as_bytes(),
            cpus: 1,
            processes: 1,
            mounts: Vec::new(),
            network: Network::None,
            stop_signal: "SIGTERM".to_owned(),
            labels: labels.map(|(key, value)| (key.to_owned(), value)).into(),
        };
        let container = docker.create(&spec, ()).await?;
        docker.start(&container, ()).await.map(drop)
    }

    fn agents(&self) -> Option<&Agents> {
        self.remote_agents.as_ref().map(|agents| &agents.agents)
    }

    async fn agent_config(&self, instance: InstanceId) -> Result<SecretString> {
        let file = self.root().join("guests").join(instance.to_string()).join("agent.json");
        blocking(move || fs::read_to_string(file).map(SecretString::from).map_err(failed)).await
    }
}

/// Lists the processes whose command lines mention this directory.
fn processes(root: &Path) -> io::Result<Vec<String>> {
    let root = root.to_string_lossy();
    let mut found = Vec::new();
    for process in fs::read_dir("/proc")?.flatten() {
        // The process may have ended meanwhile.
        let command_line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&command_line).contains(&*root) {
            found.push(format!("process {}", process.file_name().display()));
        }
    }
    Ok(found)
}

fn failed(error: io::Error) -> Error {
    Error::internal("could not use the directory of the testbed").with_source(error)
}
