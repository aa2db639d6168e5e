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
    platform::{Compute, EndpointRequest, Ensured, Networks, Placement, Volumes},
    time::Timestamp,
};

use super::{Sessions, artifacts, faults, file_systems::FileSystems};
use crate::{LocalPlatform, container::SCOPE_LABEL, docker::Docker};

/// Hosts on this machine for servers in containers that have the [name of their
/// host](GuestHost::name).
///
/// Each testbed has a temporary directory and a scope of its own. Dropping it removes its
/// containers, network, file systems and directory. If the process is root and the machine supports
/// loop devices, volumes are separate file systems, so that the suite can fill them.
pub struct DockerTestbed {
    driver: Arc<dyn Driver>,
    version: Option<String>,
    memory: ByteSize,
    volume: ByteSize,
    sessions: Option<Box<dyn Sessions>>,
    samples: SampleSettings,
    upgrade_target: Option<Release>,
    options: SuiteOptions,
    docker: Docker,
    local: LocalPlatform,
    file_systems: Arc<FileSystems>,
    _directory: TempDir,
}

impl DockerTestbed {
    /// Creates a testbed for this driver on the Docker Engine of this machine. Servers have the
    /// driver's default version, 256 MiB of memory or the driver's minimum if that is more, and
    /// volumes of 512 MiB.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](trove_core::error::Kind::Unavailable) if no temporary directory can be
    /// created, and errors of the local platform.
    pub fn new(driver: impl Driver) -> Result<Self> {
        let directory = tempfile::tempdir();
        let directory = directory
            .map_err(|error| Error::unavailable("could not create a temporary directory").with_source(error))?;
        let (docker, memory) = (Docker::connect(), driver.manifest().min_memory.max(mib(256)));
        Ok(Self {
            driver: Arc::new(driver),
            version: None,
            memory,
            volume: mib(512),
            sessions: None,
            samples: SampleSettings::default(),
            upgrade_target: None,
            options: SuiteOptions::default(),
            local: LocalPlatform::builder(directory.path().join("root")).docker(docker.clone()).connect()?,
            docker,
            file_systems: Arc::new(FileSystems::new(directory.path().join("images"))),
            _directory: directory,
        })
    }

    /// Sets the version of the servers, which must be in the driver's manifest.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Sets the memory of each server.
    #[must_use]
    pub fn memory(mut self, memory: ByteSize) -> Self {
        self.memory = memory;
        self
    }

    /// Sets the size of each volume. The suite fills some of them.
    #[must_use]
    pub fn volume(mut self, volume: ByteSize) -> Self {
        self.volume = volume;
        self
    }

    /// Sets how client sessions are opened, which an engine with accounts needs.
    #[must_use]
    pub fn sessions(mut self, sessions: impl Sessions) -> Self {
        self.sessions = Some(Box::new(sessions));
        self
    }

    /// Sets the settings that cases apply.
    #[must_use]
    pub fn sample_settings(mut self, samples: SampleSettings) -> Self {
        self.samples = samples;
        self
    }

    /// Sets the release that cases upgrade to.
    #[must_use]
    pub fn upgrade_target(mut self, release: Release) -> Self {
        self.upgrade_target = Some(release);
        self
    }

    /// Sets how thorough the suite is.
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
        let request = EndpointRequest { public: false, port: self.driver.manifest().port };
        let Ensured::Ready(endpoint) = self.local.ensure_endpoint(instance.id, request).await? else {
            return Err(pending());
        };
        let placed = self.local.ensure_compute(&instance, &endpoint, None).await?;
        let Ensured::Ready(Placement::InProcess(host)) = placed else { return Err(pending()) };
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
            None => Err(Error::unsupported("the testbed has no client sessions")),
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
        self.upgrade_target.clone()
    }

    fn options(&self) -> SuiteOptions {
        self.options
    }
}

impl Drop for DockerTestbed {
    fn drop(&mut self) {
        let (docker, scope) = (self.docker.reconnect(), self.local.scope().to_owned());
        // `block_on` panics within another runtime.
        let removed = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(|error| Error::internal("could not start a runtime").with_source(error))?.block_on(async {
                for container in docker.labelled(&[(SCOPE_LABEL, &scope)]).await? {
                    docker.remove(&container).await?;
                }
                docker.remove_network(&format!("trove-{scope}")).await
            })
        });
        if let Ok(Err(error)) = removed.join() {
            tracing::error!(error = error.report(), "failed to remove containers of the conformance suite");
        }
        if let Err(error) = self.local.remove_firewall() {
            tracing::error!(error = error.report(), "failed to remove the packet filter of the conformance suite");
        }
        self.file_systems.unmount_all();
    }
}

fn pending() -> Error {
    Error::internal("the local platform did not complete a call immediately")
}
