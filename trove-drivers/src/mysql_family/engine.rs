//! The engine of both servers, and the description of how they differ.

use std::{fmt::Debug, future::Future, path::Path};

use async_trait::async_trait;
use trove_core::{
    datastore::{Accounts, Cx, GuestHost, Manifest, Prepare},
    error::{Error, Result},
    model::{Flavor, Parameter, Setting, Settings},
};

use super::{
    AdminConnector, DATA_VOLUME, Dialect, FamilyAccounts, MemoryBudget, ServerVersion, check_settings, main_file,
    max_processes, parameters, settings_file, size_file, startup_error, version_after,
};
use crate::{
    container::{CONFIGURATION, ConfigFile, Engine, Helper, Parameters, Readiness, Template, UpgradePath},
    hash::short_hash,
};

/// The file with the SQL that a new data directory is initialized with.
const INIT_SQL: &str = "init.sql";

/// The differences between the servers of MySQL and MariaDB.
pub(crate) trait Variant: Dialect {
    /// The product name.
    const NAME: &str;

    /// The server binary.
    const SERVER: &str;

    /// The names of files in a new data directory that no two servers may share.
    const INDIVIDUAL_FILES: &[&str];

    /// Parameters that a running server applies differently than a starting one: together with another one, or with a
    /// value that it then computes. For some the startup value becomes the default.
    const START_ONLY: &[&str];

    /// Our settings that tenants may change, and those that they may not.
    const DEFAULTS: &[(&str, &str)];
    const FIXED: &[(&str, &str)];

    /// Returns the manifest of the driver.
    fn manifest() -> Manifest;

    /// Returns the memory in MiB that a server uses besides its sessions and its buffer pool.
    fn server_mib(flavor: &Flavor) -> u64;

    /// Returns the settings that depend on the size and that only this server has.
    fn sized_settings(flavor: &Flavor, budget: &MemoryBudget) -> Vec<(&'static str, String)>;

    /// Returns the SQL that a new data directory is initialized with.
    fn init_sql() -> String;

    /// Returns the command that initializes a data directory, given the path of the SQL file.
    fn init_command(data: &str, init_file: &str) -> Vec<String>;

    /// Returns true if this server's binary printed the version.
    fn printed_version(output: &str) -> bool;

    /// Returns the version that wrote a data directory.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](trove_core::error::Kind::Corrupt) if the data is not this server's.
    fn data_version(data: &Path) -> Result<String>;

    /// Returns true if a server of a later series can upgrade the data of an earlier one.
    fn can_upgrade(from: &ServerVersion, to: &ServerVersion) -> bool;

    /// Reads all parameters from a scratch server.
    fn read_parameters(admin: &AdminConnector<Self>) -> impl Future<Output = Result<Vec<Parameter>>> + Send
    where
        Self: Sized;

    /// Upgrades the data after another release was started on it.
    fn migrate(
        _admin: &AdminConnector<Self>,
        _server_uid: u32,
        _cx: &Cx,
        _helper: &dyn Helper,
    ) -> impl Future<Output = Result<()>> + Send
    where
        Self: Sized,
    {
        async { Ok(()) }
    }
}

/// The server of one instance.
#[derive(Debug)]
pub struct FamilyEngine<V> {
    accounts: FamilyAccounts<V>,
    /// The host user that the server runs as.
    server_uid: u32,
}

#[async_trait]
impl<V: Variant> Engine for FamilyEngine<V> {
    fn manifest() -> Manifest {
        V::manifest()
    }

    fn check_settings(flavor: &Flavor, settings: &Settings) -> Result<()> {
        check_settings(flavor, V::server_mib(flavor), settings)
    }

    fn new(host: &GuestHost) -> Self {
        let server_uid = host.server.uid;
        Self { accounts: FamilyAccounts::new(host.directory.join("run"), server_uid), server_uid }
    }

    fn volume_target(&self) -> &str {
        DATA_VOLUME
    }

    fn files(&self, host: &GuestHost, settings: &Settings) -> Vec<ConfigFile> {
        files::<V>(host, &format!("{DATA_VOLUME}/{}", self.data_directory()), settings)
    }

    fn init_command(&self, _host: &GuestHost, data: &str) -> Option<Vec<String>> {
        Some(V::init_command(data, &format!("{CONFIGURATION}/{INIT_SQL}")))
    }

    fn template(&self) -> Option<Template> {
        let individual = V::INDIVIDUAL_FILES.iter().map(|name| (*name).to_owned()).collect();
        Some(Template { options: short_hash(V::init_sql().as_bytes()), individual })
    }

    fn server_command(&self, _host: &GuestHost, data: &str) -> Vec<String> {
        server_command::<V>(data)
    }

    fn version_command(&self) -> Option<Vec<String>> {
        Some([V::SERVER, "--version"].map(str::to_owned).into())
    }

    fn read_version(&self, output: &str) -> Option<String> {
        if V::printed_version(output) { version_after(output, "Ver ") } else { None }
    }

    fn check_data(&self, host: &GuestHost, data: &Path) -> Result<()> {
        let found = V::data_version(data)?;
        self.upgrade_path(&found, &host.version).map(drop).map_err(|error| {
            let (name, expected) = (V::NAME, &host.version);
            Error::conflict(format!("the data directory belongs to {name} {found}, not {name} {expected}"))
                .with_source(error)
        })
    }

    fn max_processes(&self, host: &GuestHost) -> u32 {
        max_processes(&host.flavor)
    }

    async fn probe(&self) -> Readiness {
        self.accounts.admin().probe().await
    }

    async fn allow_writes(&self) -> Result<()> {
        self.accounts.admin().allow_writes().await
    }

    async fn reclaim_space(&self) -> Result<()> {
        self.accounts.admin().purge_binary_logs().await
    }

    fn startup_error(&self, output: &str) -> Option<String> {
        startup_error(output)
    }

    fn disconnect(&self) {
        self.accounts.admin().disconnect();
    }

    async fn provision(&self, cx: &Cx, spec: &Prepare) -> Result<()> {
        self.accounts.provision(cx, spec).await
    }

    fn accounts(&self) -> Option<&dyn Accounts> {
        Some(&self.accounts)
    }

    fn parameters(&self) -> Option<&dyn Parameters> {
        Some(self)
    }

    fn upgrade_path(&self, from: &str, to: &str) -> Result<UpgradePath> {
        let (old, new) = (ServerVersion::parse(V::NAME, from)?, ServerVersion::parse(V::NAME, to)?);
        if old.same_series(&new) {
            return Ok(UpgradePath::Compatible);
        }
        let name = V::NAME;
        match V::can_upgrade(&old, &new) {
            true => Ok(UpgradePath::Changing),
            false => Err(Error::unsupported(format!("cannot upgrade {name} {from} to {name} {to} on the same data"))),
        }
    }

    async fn migrate(&self, cx: &Cx, helper: &dyn Helper) -> Result<()> {
        V::migrate(self.accounts.admin(), self.server_uid, cx, helper).await
    }
}

#[async_trait]
impl<V: Variant> Parameters for FamilyEngine<V> {
    async fn read(&self, cx: &Cx) -> Result<Vec<Parameter>> {
        tokio::select! {
            read = V::read_parameters(self.accounts.admin()) => read,
            () = cx.cancelled() => Err(Error::cancelled("reading the parameters was cancelled")),
        }
    }

    async fn set(&self, host: &GuestHost, changes: &[(String, Option<Setting>)]) -> Result<Vec<String>> {
        let defaults = self.files(host, &Settings::new());
        parameters::set(self.accounts.admin(), &defaults, V::START_ONLY, changes).await
    }
}

/// Returns the command that runs the server on this data directory.
pub(crate) fn server_command<V: Variant>(data: &str) -> Vec<String> {
    vec![V::SERVER.to_owned(), format!("--defaults-file={CONFIGURATION}/my.cnf"), format!("--datadir={data}")]
}

/// Returns all configuration files of a server.
pub(crate) fn files<V: Variant>(host: &GuestHost, data: &str, settings: &Settings) -> Vec<ConfigFile> {
    let budget = MemoryBudget::new(&host.flavor, host.volume_size, V::server_mib(&host.flavor));
    let mut size = budget.settings();
    size.extend(V::sized_settings(&host.flavor, &budget));
    vec![
        main_file(host, data, V::DEFAULTS, V::FIXED),
        size_file(&size),
        settings_file(settings),
        ConfigFile::new(INIT_SQL, V::init_sql()),
    ]
}
