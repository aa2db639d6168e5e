//! The MariaDB driver.

mod accounts;
mod config;
mod engine;
mod migrate;
mod parameters;

use trove_core::{
    datastore::{Manifest, Version},
    model::mib,
};

use crate::{
    container::ContainerDriver,
    mysql_family::{self, FamilyEngine, PORT},
};
pub(crate) use engine::MariaDbVariant;

const NAME: &str = "mariadb";

/// The maximum length of a user name, in characters and, to be safe, in bytes.
const USER_BYTES: usize = 80;

/// The MariaDB driver, for versions 10.11 and 11. Its images have `mariadbd` in `PATH`.
///
/// ```
/// use trove_core::datastore::Driver;
/// use trove_drivers::MariaDb;
///
/// let driver = MariaDb::new().image("11.8", "registry.example/mariadb:11.8");
/// assert_eq!(driver.manifest().version(None)?.image, "registry.example/mariadb:11.8");
/// # Ok::<_, trove_core::error::Error>(())
/// ```
pub type MariaDb = ContainerDriver<FamilyEngine<MariaDbVariant>>;

fn manifest() -> Manifest {
    let mut manifest = Manifest::new(NAME, Version::new("11.8", "mariadb:11.8"), PORT);
    manifest.versions.push(Version::new("10.11", "mariadb:10.11"));
    manifest.series = ["10.11", "11"].map(str::to_owned).into();
    // The scheme that its clients in many languages use.
    manifest.uri_scheme = "mysql".to_owned();
    manifest.min_memory = mib(256);
    manifest.accounts = Some(mysql_family::rules(USER_BYTES));
    (manifest.configuration, manifest.upgrade) = (true, true);
    manifest
}
