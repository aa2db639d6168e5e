//! The PostgreSQL driver.
//!
//! The service administers a server as [`ADMIN`], which has no password: the server authenticates
//! it on its socket only, by the credentials of the connecting process. Each of the tenant's
//! databases is owned by a role of the service, as which its users act there, so that they share
//! what any of them creates.
//!
//! The differences between major versions are in `version`.

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

/// The maximum length of a name in bytes.
const NAME_BYTES: usize = 63;

/// The role by which the service administers a server.
const ADMIN: &str = "trove_admin";

/// The tenant's root.
const ROOT: &str = "root";

const RESERVED_DATABASES: [&str; 3] = ["postgres", "template0", "template1"];

/// The PostgreSQL driver, for versions 15 to 18.
///
/// In version 15, `CREATEROLE` covers all roles, including those that reach the operating system.
/// So the tenant's root creates databases there but no roles: users are created, renamed, given
/// passwords and dropped through the service. Everything else is the same in every version.
///
/// The programs of an image are searched in `PATH` and in `/usr/lib/postgresql/<version>/bin`.
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
    (manifest.configuration, manifest.upgrade) = (true, true);
    manifest
}
