//! The MySQL driver.

mod accounts;
mod config;
mod engine;
mod parameters;
mod password;

use trove_core::{
    datastore::{Manifest, Version},
    model::mib,
};

use crate::{
    container::ContainerDriver,
    mysql_family::{self, FamilyEngine, PORT},
};
pub(crate) use engine::MySqlVariant;

const NAME: &str = "mysql";

/// The maximum length of a user name, in characters and, to be safe, in bytes.
const USER_BYTES: usize = 32;

/// The MySQL driver, for versions 8.4 and 9. Its images have `mysqld` in `PATH`.
///
/// ```
/// use trove_core::datastore::Driver;
/// use trove_drivers::MySql;
///
/// let driver = MySql::new().image("9.7", "registry.example/mysql:9.7");
/// assert_eq!(driver.manifest().version(None)?.image, "registry.example/mysql:9.7");
/// # Ok::<_, trove_core::error::Error>(())
/// ```
pub type MySql = ContainerDriver<FamilyEngine<MySqlVariant>>;

fn manifest() -> Manifest {
    let mut manifest = Manifest::new(NAME, Version::new("9.7", "mysql:9.7"), PORT);
    manifest.versions.push(Version::new("8.4", "mysql:8.4"));
    manifest.series = ["8.4", "9"].map(str::to_owned).into();
    manifest.min_memory = mib(384);
    manifest.accounts = Some(mysql_family::rules(USER_BYTES));
    (manifest.configuration, manifest.upgrade) = (true, true);
    manifest
}
