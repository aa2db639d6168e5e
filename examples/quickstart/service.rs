//! The service itself: a store, a platform and a datastore below one directory.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use trove_core::{
    Trove,
    datastore::Driver,
    error::{Error, Result},
    id::InstanceId,
    secret::{ExposeSecret, SecretString},
};
use trove_drivers::{LocalPlatform, PostgreSql};

use crate::Options;

/// The running service and the platform below it.
pub(crate) struct Service {
    pub(crate) trove: Trove,
    pub(crate) platform: LocalPlatform,
    pub(crate) home: Home,
}

/// Where one instance of the tour keeps everything.
#[derive(Clone)]
pub(crate) struct Home {
    pub(crate) id: InstanceId,
    directory: PathBuf,
}

/// Refuses what could not be created, before anything is made.
pub(crate) fn check(options: &Options) -> Result<()> {
    let driver = PostgreSql::new();
    let manifest = driver.manifest();
    if options.datastore != manifest.name {
        let (wanted, known) = (&options.datastore, &manifest.name);
        return Err(Error::not_found(format!("there is no datastore {wanted:?}; there is: {known}")));
    }
    manifest.version(options.version.as_deref()).map(drop)
}

/// Starts the service, or goes on with what an earlier one left there.
pub(crate) async fn start(options: &Options, home: &Home) -> Result<Service> {
    home.make()?;
    let platform = LocalPlatform::connect(home.directory.join("platform"))?;
    // Asks the Docker engine, so that one that is not there is told at once.
    platform.inventory().await?;
    let mut postgresql = PostgreSql::new();
    if let Some(image) = &options.image {
        let version = postgresql.manifest().version(options.version.as_deref())?.name.clone();
        postgresql = postgresql.image(&version, image);
    }
    let trove = Trove::builder()
        .store(format!("sqlite:{}", home.directory.join("trove.db").display()))
        .platform(platform.clone())
        .datastore(postgresql)
        .start()
        .await?;
    Ok(Service { trove, platform, home: home.clone() })
}

impl Home {
    pub(crate) fn new(data: &Path, id: InstanceId) -> Self {
        Self { id, directory: data.join(id.to_string()) }
    }

    /// Refuses where no instance was kept.
    pub(crate) fn check(&self) -> Result<()> {
        if self.directory.join("trove.db").exists() {
            return Ok(());
        }
        Err(Error::not_found(format!("there is no instance {} below {}", self.id, self.directory.display())))
    }

    /// Where the whole URI, password and all, of a kept instance is written.
    pub(crate) fn uri_file(&self) -> PathBuf {
        self.directory.join("uri")
    }

    pub(crate) fn write_uri(&self, uri: &SecretString) -> Result<()> {
        use io::Write;
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(self.uri_file());
        file.and_then(|mut file| writeln!(file, "{}", uri.expose_secret()))
            .map_err(|error| self.failed("write to", error))
    }

    /// Removes everything, and the directory above it where nothing else is in it.
    pub(crate) fn remove(&self) -> Result<()> {
        fs::remove_dir_all(&self.directory).map_err(|error| self.failed("remove", error))?;
        match self.directory.parent().map(fs::remove_dir) {
            Some(Err(error)) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(self.failed("remove", error)),
            _ => Ok(()),
        }
    }

    fn make(&self) -> Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .map_err(|error| self.failed("make", error))
    }

    fn failed(&self, what: &str, error: io::Error) -> Error {
        Error::internal(format!("cannot {what} directory {}", self.directory.display())).because(error)
    }
}
