use std::{sync::Arc, thread};

use async_trait::async_trait;
use tempfile::TempDir;
use trove_core::{
    conformance::driver::{
        Artifact, ClientLogin, ClientSession, DriverTestbed, SampleSettings, ServerFault, SuiteOptions,
    },
    datastore::{Driver, GuestHost, Release},
    error::{Error, Result},
    id::InstanceId,
    model::{ByteSize, Flavor, Instance, mib},
    platform::{Compute, Ensured, Networks, Placement, Volumes},
    time::Timestamp,
};

use super::{Sessions, artifacts, faults, file_systems::FileSystems};
use crate::{LocalPlatform, container::SCOPE_LABEL, docker::Docker};

/// Places on this machine for servers in containers that have the [name of their place](GuestHost::name).
///
/// Each testbed has a temporary directory and a scope of its own. When it is dropped, nothing of it is left, whatever
/// happened before. Where the process is root, and the machine has file systems to mount, volumes are file systems of
/// their own, so that they can be full.
pub struct DockerTestbed {
    driver: Arc<dyn Driver>,
    version: Option<String>,
    memory: ByteSize,
    volume: ByteSize,
    sessions: Option<Box<dyn Sessions>>,
    samples: SampleSettings,
    upgrade: Option<Release>,
    options: SuiteOptions,
    docker: Docker,
    local: LocalPlatform,
    file_systems: Arc<FileSystems>,
    _directory: TempDir,
}

impl DockerTestbed {
    /// A testbed for this driver on the Docker Engine of this machine. Its servers are of the driver's default version and
    /// have 256 MiB of memory, or what the driver needs at least, and volumes of 512 MiB.
    pub fn new(driver: impl Driver) -> Result<Self> {
        let directory = tempfile::tempdir();
        let directory =
            directory.map_err(|error| Error::unavailable("no directory for the suite").with_source(error))?;
        let (docker, memory) = (Docker::connect(), driver.manifest().min_memory.max(mib(256)));
        Ok(Self {
            driver: Arc::new(driver),
            version: None,
            memory,
            volume: mib(512),
            sessions: None,
            samples: SampleSettings::default(),
            upgrade: None,
            options: SuiteOptions::default(),
            local: LocalPlatform::builder(directory.path().join("root")).docker(docker.clone()).connect()?,
            docker,
            file_systems: Arc::new(FileSystems::new(directory.path().join("images"))),
            _directory: directory,
        })
    }

    /// Servers of this version, one of the driver's manifest.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Servers with so much memory.
    #[must_use]
    pub fn memory(mut self, memory: ByteSize) -> Self {
        self.memory = memory;
        self
    }

    /// Servers with volumes of this size. The suite fills some.
    #[must_use]
    pub fn volume(mut self, volume: ByteSize) -> Self {
        self.volume = volume;
        self
    }

    /// Clients' sessions with the servers, for an engine that has accounts.
    #[must_use]
    pub fn sessions(mut self, sessions: impl Sessions) -> Self {
        self.sessions = Some(Box::new(sessions));
        self
    }

    /// What to try settings with.
    #[must_use]
    pub fn sample_settings(mut self, samples: SampleSettings) -> Self {
        self.samples = samples;
        self
    }

    /// A release that the servers can be upgraded to.
    #[must_use]
    pub fn upgrade_target(mut self, release: Release) -> Self {
        self.upgrade = Some(release);
        self
    }

    /// What the suite may take of time.
    #[must_use]
    pub fn options(mut self, options: SuiteOptions) -> Self {
        self.options = options;
        self
    }

    async fn instance(&self) -> Result<Instance> {
        let manifest = self.driver.manifest();
        let version = manifest.version(self.version.as_deref())?;
        let flavor = Flavor::new("conformance", self.memory, 1);
        let id = InstanceId::new_v4();
        let mut instance = Instance::new(id, "conformance", &manifest.name, flavor, self.volume, Timestamp::now());
        instance.project = "conformance".to_owned();
        instance.version.clone_from(&version.name);
        instance.version_number.clone_from(&version.name);
        instance.image.clone_from(&version.image);
        Ok(instance)
    }
}

#[async_trait]
impl DriverTestbed for DockerTestbed {
    fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }

    async fn allocate(&self) -> Result<GuestHost> {
        let instance = self.instance().await?;
        self.local.ensure_volume(instance.id, instance.volume).await?;
        let Ensured::Ready(endpoint) = self.local.ensure_endpoint(instance.id, false).await? else {
            return Err(late());
        };
        let placed = self.local.ensure_compute(&instance, &endpoint, None).await?;
        let Ensured::Ready(Placement::InProcess(host)) = placed else { return Err(late()) };
        FileSystems::mount(&self.file_systems, &host).await?;
        Ok(*host)
    }

    async fn release(&self, host: &GuestHost) -> Result<()> {
        self.local.release_compute(host.instance).await?;
        self.local.release_endpoint(host.instance).await?;
        FileSystems::unmount(&self.file_systems, host).await?;
        self.local.release_volume(host.instance).await
    }

    async fn leftovers(&self, host: &GuestHost) -> Result<Vec<String>> {
        artifacts::leftovers(&self.docker, host).await
    }

    async fn connect(&self, host: &GuestHost, login: &ClientLogin) -> Result<Box<dyn ClientSession>> {
        match &self.sessions {
            Some(sessions) => sessions.open(&host.endpoint, login).await,
            None => Err(Error::unsupported("the testbed was told of no sessions")),
        }
    }

    async fn inject(&self, host: &GuestHost, fault: ServerFault) -> Result<()> {
        faults::inject(&self.docker, host, fault).await
    }

    async fn artifacts(&self, host: &GuestHost) -> Result<Vec<Artifact>> {
        artifacts::artifacts(&self.docker, host).await
    }

    fn sample_settings(&self) -> SampleSettings {
        self.samples.clone()
    }

    fn upgrade_target(&self) -> Option<Release> {
        self.upgrade.clone()
    }

    fn options(&self) -> SuiteOptions {
        self.options
    }
}

impl Drop for DockerTestbed {
    fn drop(&mut self) {
        let (docker, scope) = (self.docker.anew(), self.local.scope().to_owned());
        // A runtime may not be waited for within another one.
        let swept = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(|error| Error::internal("no runtime to clear up in").with_source(error))?.block_on(async {
                for container in docker.labelled(&[(SCOPE_LABEL, &scope)]).await? {
                    docker.remove(&container).await?;
                }
                docker.remove_network(&format!("trove-{scope}")).await
            })
        });
        if let Ok(Err(error)) = swept.join() {
            tracing::error!(error = error.report(), "what the suite made is left behind");
        }
        self.file_systems.unmount_all();
    }
}

fn late() -> Error {
    Error::internal("the local platform made its caller wait")
}
