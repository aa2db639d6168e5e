//! PostgreSQL: what is special about its servers, and the accounts inside.
//!
//! The service administers a server as [`ADMIN`], which has no password: it is let in over the server's socket only,
//! by the credentials of the process at the other end. Tenants' databases are owned by roles of the service's, one a
//! database, in whose name their users act there; so what one user of a database makes the others may use.
//!
//! What differs between major versions is in `version`.

mod accounts;
mod byte_limited_stream;
mod config;
mod connection;
mod derived_settings;
mod engine;
mod limits;
mod parameters;
mod reserved;
mod sql;
mod startup_error;
mod version;

use trove_core::{
    datastore::{AccountRules, Manifest, Version},
    model::mib,
};

use crate::container::ContainerDriver;
use engine::PostgreSqlEngine;

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
/// The programs of an image are looked for in `PATH` and in `/usr/lib/postgresql/<version>/bin`.
///
/// ```
/// use trove_core::datastore::Driver;
/// use trove_drivers::PostgreSql;
///
/// let driver = PostgreSql::new().image("17", "registry.example/postgres:17");
/// assert_eq!(driver.manifest().version(None)?.image, "registry.example/postgres:17");
/// # Ok::<_, trove_core::error::Error>(())
/// ```
pub type PostgreSql = ContainerDriver<PostgreSqlEngine>;

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
