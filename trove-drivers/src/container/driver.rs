use std::{fmt, marker::PhantomData, sync::Arc};

use trove_core::{
    datastore::{Datastore, Driver, GuestHost, Manifest},
    error::{Error, Result},
    layer::{Fence, Layered},
    model::{Flavor, Settings},
};

use super::{Engine, datastore::ContainerDatastore, disk_locks::DiskLocks};
use crate::docker::Docker;

/// The driver of an engine that runs in containers. Its datastores are [fenced](Fence).
///
/// ```
/// use trove_core::datastore::Driver;
/// use trove_drivers::MariaDb;
///
/// let driver = MariaDb::new().image("11.8", "registry.example/mariadb:11.8");
/// assert_eq!(driver.manifest().version(None)?.image, "registry.example/mariadb:11.8");
/// # Ok::<_, trove_core::error::Error>(())
/// ```
pub struct ContainerDriver<E> {
    docker: Docker,
    disk_locks: DiskLocks,
    manifest: Manifest,
    engine: PhantomData<fn() -> E>,
}

impl<E: Engine> ContainerDriver<E> {
    /// Returns the driver with the engine's default images, on the Docker Engine of this machine.
    pub fn new() -> Self {
        let mut manifest = E::manifest();
        // A container of any engine can be given other limits.
        manifest.resize = true;
        Self { docker: Docker::connect(), disk_locks: DiskLocks::default(), manifest, engine: PhantomData }
    }

    /// Runs servers on this Docker Engine.
    #[must_use]
    pub fn docker(mut self, docker: Docker) -> Self {
        self.docker = docker;
        self
    }

    /// Runs servers of a version from another image: the official one, or one with the same
    /// programs in `PATH`. An unknown version is ignored.
    #[must_use]
    pub fn image(mut self, version: &str, image: impl Into<String>) -> Self {
        if let Some(found) = self.manifest.versions.iter_mut().find(|found| found.name == version) {
            found.image = image.into();
        }
        self
    }
}

impl<E: Engine> Default for ContainerDriver<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> Clone for ContainerDriver<E> {
    fn clone(&self) -> Self {
        let (docker, disk_locks) = (self.docker.clone(), self.disk_locks.clone());
        Self { docker, disk_locks, manifest: self.manifest.clone(), engine: PhantomData }
    }
}

impl<E> fmt::Debug for ContainerDriver<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContainerDriver").field("manifest", &self.manifest).finish_non_exhaustive()
    }
}

impl<E: Engine> Driver for ContainerDriver<E> {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn attach(&self, host: GuestHost) -> Result<Arc<dyn Datastore>> {
        self.manifest.check_version(&host.version)?;
        let Manifest { name, min_memory, .. } = &self.manifest;
        if host.flavor.memory < *min_memory {
            return Err(Error::invalid(format!("a server of {name} needs {min_memory} of memory or more")));
        }
        let (fence, disk) = (Fence::new(&host), self.disk_locks.of(&host));
        let datastore = ContainerDatastore::<E>::new(self.docker.clone(), disk, host);
        Ok(Arc::new(Layered::new(fence, Arc::new(datastore))))
    }

    fn check_settings(&self, flavor: &Flavor, settings: &Settings) -> Result<()> {
        E::check_settings(flavor, settings)
    }
}
