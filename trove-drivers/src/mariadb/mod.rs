//! MariaDB: what is special about its servers, and the accounts inside.

mod accounts;
mod config;
mod engine;
mod migrate;
mod parameters;

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
use engine::MariaDbEngine;

const NAME: &str = "mariadb";

/// The longest name of a user, in characters and, to be safe, in bytes.
const USER_BYTES: usize = 80;

/// The MariaDB driver.
///
/// ```
/// use trove_core::datastore::Driver;
/// use trove_drivers::MariaDb;
///
/// let driver = MariaDb::new().image("11.8", "registry.example/mariadb:11.8");
/// assert_eq!(driver.manifest().version(None)?.image, "registry.example/mariadb:11.8");
/// # Ok::<_, trove_core::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct MariaDb {
    docker: Docker,
    manifest: Manifest,
}

impl MariaDb {
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

    /// Runs servers of a version from another image: the official one or one with `mariadbd` in `PATH`. A version that is
    /// not on offer is ignored.
    #[must_use]
    pub fn image(mut self, version: &str, image: impl Into<String>) -> Self {
        use_image(&mut self.manifest, version, image.into());
        self
    }
}

impl Default for MariaDb {
    fn default() -> Self {
        Self::new()
    }
}

impl Driver for MariaDb {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn attach(&self, host: GuestHost) -> Result<Arc<dyn Datastore>> {
        check_host(&self.manifest, &host, "MariaDB")?;
        let engine = MariaDbEngine::new(&host);
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
    let mut manifest = Manifest::new(NAME, Version::new("11.8", "mariadb:11.8"), PORT);
    manifest.versions.push(Version::new("10.11", "mariadb:10.11"));
    manifest.series = ["10.11", "11"].map(str::to_owned).into();
    // What its clients, and those of many languages, call it.
    manifest.uri_scheme = "mysql".to_owned();
    manifest.min_memory = mib(256);
    manifest.accounts = Some(mysql_family::rules(USER_BYTES));
    manifest
}
