//! The service: a store, a platform and the datastores, with all data below one directory.

use trove_core::{
    Trove,
    datastore::Driver,
    error::{Error, Result},
};
use trove_drivers::{LocalPlatform, MariaDb, MySql, PostgreSql};
use trove_valkey::Valkey;

use crate::{Options, home::Home};

/// The running service and its platform.
pub(crate) struct Service {
    pub(crate) trove: Trove,
    pub(crate) platform: LocalPlatform,
    pub(crate) home: Home,
}

/// Rejects options for which no instance can be created.
pub(crate) fn check(options: &Options) -> Result<()> {
    wanted_version(options).map(drop)
}

/// Starts the service, which resumes what an earlier process left unfinished.
pub(crate) async fn start(options: &Options, home: &Home) -> Result<Service> {
    home.create()?;
    let platform = LocalPlatform::connect(home.path("platform"))?;
    // Fails early if the Docker engine does not respond.
    platform.inventory().await?;
    let (mut postgresql, mut mysql, mut mariadb) = (PostgreSql::new(), MySql::new(), MariaDb::new());
    let mut valkey = Valkey::new();
    if let Some(image) = &options.image {
        let version = wanted_version(options)?;
        match options.datastore.as_str() {
            "mysql" => mysql = mysql.image(&version, image),
            "mariadb" => mariadb = mariadb.image(&version, image),
            "valkey" => valkey = valkey.image(&version, image),
            _ => postgresql = postgresql.image(&version, image),
        }
    }
    let trove = Trove::builder()
        .store(format!("sqlite:{}", home.path("trove.db").display()))
        .platform(platform.clone())
        .datastore(postgresql)
        .datastore(mysql)
        .datastore(mariadb)
        .datastore(valkey)
        .start()
        .await?;
    Ok(Service { trove, platform, home: home.clone() })
}

fn wanted_version(options: &Options) -> Result<String> {
    let drivers: [Box<dyn Driver>; 4] =
        [Box::new(PostgreSql::new()), Box::new(MySql::new()), Box::new(MariaDb::new()), Box::new(Valkey::new())];
    let manifests = drivers.each_ref().map(|driver| driver.manifest());
    if let Some(manifest) = manifests.iter().find(|manifest| manifest.name == options.datastore) {
        return Ok(manifest.version(options.version.as_deref())?.name.clone());
    }
    let known: Vec<_> = manifests.iter().map(|manifest| manifest.name.as_str()).collect();
    Err(Error::not_found(format!("datastore {:?} does not exist; available: {}", options.datastore, known.join(", "))))
}
