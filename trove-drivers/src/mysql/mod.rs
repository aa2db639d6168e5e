//! MySQL: what is special about its servers, and the accounts inside.

mod accounts;
mod config;
mod engine;
mod parameters;
mod password;

use std::sync::Arc;

use trove_core::{
    datastore::{Datastore, Driver, GuestHost, Manifest, Version},
    error::Result,
    model::{Flavor, Settings, mib},
};

use crate::{
    container::{ContainerDatastore, check_host, use_image},
    docker::Docker,
    mysql_family::{self, PORT},
};
use engine::MySqlEngine;

const NAME: &str = "mysql";

/// The longest name of a user, in characters and, to be safe, in bytes.
const USER_BYTES: usize = 32;

/// The MySQL driver.
///
/// ```
/// use trove_core::datastore::Driver;
/// use trove_drivers::MySql;
///
/// let driver = MySql::new().image("9.7", "registry.example/mysql:9.7");
/// assert_eq!(driver.manifest().version(None)?.image, "registry.example/mysql:9.7");
/// # Ok::<_, trove_core::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct MySql {
    docker: Docker,
    manifest: Manifest,
}

impl MySql {
    /// The driver with its default images, on the Docker Engine of this machine.
    pub fn new() -> Self {
        Self { docker: Docker::connect(), manifest: manifest() }
    }

    /// Runs servers on this Docker Engine.
    #[must_use]
    pub fn docker(mut self, docker: Docker) -> Self {
        self.docker = docker;
        self
    }

    /// Runs servers of a version from another image: the official one or one with `mysqld` in `PATH`. A version that is
    /// not on offer is ignored.
    #[must_use]
    pub fn image(mut self, version: &str, image: impl Into<String>) -> Self {
        use_image(&mut self.manifest, version, image.into());
        self
    }
}

impl Default for MySql {
    fn default() -> Self {
        Self::new()
    }
}

impl Driver for MySql {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn attach(&self, host: GuestHost) -> Result<Arc<dyn Datastore>> {
        check_host(&self.manifest, &host, "MySQL")?;
        let engine = MySqlEngine::new(&host);
        Ok(Arc::new(ContainerDatastore::new(self.docker.clone(), host, engine)))
    }

    fn check_settings(&self, flavor: &Flavor, settings: &Settings) -> Result<()> {
        mysql_family::check_settings(flavor, config::server_mib(flavor), settings)
    }
}

/// The files of a server, for what is true of both engines.
#[cfg(test)]
pub(crate) fn files(host: &GuestHost, settings: &Settings) -> Vec<crate::container::ConfigFile> {
    config::files(host, "/data", settings)
}

fn manifest() -> Manifest {
    let mut manifest = Manifest::new(NAME, Version::new("9.7", "mysql:9.7"), PORT);
    manifest.versions.push(Version::new("8.4", "mysql:8.4"));
    manifest.series = ["8.4", "9"].map(str::to_owned).into();
    manifest.min_memory = mib(384);
    manifest.accounts = Some(mysql_family::rules(USER_BYTES));
    manifest
}
