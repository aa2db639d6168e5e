//! PostgreSQL: what is special about its servers, and the accounts inside.
//!
//! The service administers a server as [`ADMIN`], which has no password: it is let in over the server's socket only,
//! by the credentials of the process at the other end. Tenants' databases are owned by roles of the service's, one a
//! database, in whose name their users act there; so what one user of a database makes the others may use.
//!
//! What the versions do differently is in `major`.

mod accounts;
mod config;
mod connection;
mod engine;
mod limits;
mod major;
mod metered;
mod parameters;
mod reserved;
mod size;
mod sql;

use std::sync::Arc;

use trove_core::{
    datastore::{AccountRules, Datastore, Driver, GuestHost, Manifest, Version},
    error::Result,
    model::{Flavor, Settings, mib},
};

use crate::{
    container::{ContainerDatastore, check_host, use_image},
    docker::Docker,
};
use engine::PostgreSqlEngine;
use limits::Limits;

const NAME: &str = "postgresql";
const PORT: u16 = 5432;

/// The longest name, in bytes.
const NAME_BYTES: usize = 63;

/// The role by which the service administers a server.
const ADMIN: &str = "trove_admin";

/// The tenant's root.
const ROOT: &str = "root";

const RESERVED_DATABASES: [&str; 3] = ["postgres", "template0", "template1"];

/// The PostgreSQL driver, for versions 15 to 18.
///
/// Version 15 cannot let anybody make roles without letting them rule all roles, those that reach the operating system
/// included. So a tenant's root there makes databases but no roles: users are made, renamed, given passwords and dropped
/// through the service. All else is the same on every version.
///
/// ```
/// use trove_core::datastore::Driver;
/// use trove_drivers::PostgreSql;
///
/// let driver = PostgreSql::new().image("17", "registry.example/postgres:17");
/// assert_eq!(driver.manifest().version(None)?.image, "registry.example/postgres:17");
/// # Ok::<_, trove_core::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct PostgreSql {
    docker: Docker,
    manifest: Manifest,
}

impl PostgreSql {
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

    /// Runs servers of a version from another image: the official one or one with the same programs in `PATH` or
    /// `/usr/lib/postgresql/<version>/bin`. A version that is not on offer is ignored.
    #[must_use]
    pub fn image(mut self, version: &str, image: impl Into<String>) -> Self {
        use_image(&mut self.manifest, version, image.into());
        self
    }
}

impl Default for PostgreSql {
    fn default() -> Self {
        Self::new()
    }
}

impl Driver for PostgreSql {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn attach(&self, host: GuestHost) -> Result<Arc<dyn Datastore>> {
        check_host(&self.manifest, &host, "PostgreSQL")?;
        let engine = PostgreSqlEngine::new(&host);
        Ok(Arc::new(ContainerDatastore::new(self.docker.clone(), host, engine)))
    }

    fn check_settings(&self, flavor: &Flavor, settings: &Settings) -> Result<()> {
        Limits::new(flavor).check(settings)
    }
}

fn manifest() -> Manifest {
    let version = |major: &str| Version::new(major, format!("postgres:{major}"));
    let mut manifest = Manifest::new(NAME, version("17"), PORT);
    manifest.versions.extend(["18", "16", "15"].map(version));
    manifest.series = ["15", "16", "17", "18"].map(str::to_owned).into();
    manifest.min_memory = mib(128);
    let mut rules = AccountRules::new(NAME_BYTES);
    rules.reserved_databases.extend(RESERVED_DATABASES.map(str::to_owned));
    let users = ["postgres", ROOT, ADMIN, "public", "none", "current_user", "session_user", "current_role", "user"];
    rules.reserved_users.extend(users.map(str::to_owned));
    rules.reserved_prefixes.push("pg_".to_owned());
    manifest.accounts = Some(rules);
    manifest
}
