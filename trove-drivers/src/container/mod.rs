//! Engines that run in a container: what they have in common, and the trait by which they differ.
//!
//! An [`Engine`] provides the commands that initialize and run a server, the configuration files to
//! render, and a readiness probe. [`ContainerDriver`] turns it into a
//! [`Driver`](trove_core::datastore::Driver) that follows the rules of the contract.
//! `examples/valkey/GUIDE.md` goes from an empty file to a certified driver.
//!
//! Containers are disposable, state is on the volume: every start creates a new container with newly
//! rendered files, and a stop removes it. The server sees only these paths of the host:
//!
//! | host | container | for |
//! |---|---|---|
//! | the volume | [`Engine::volume_target`] | the data, in [`Engine::data_directory`] |
//! | `<directory>/conf` | [`CONFIGURATION`], read-only | the files that [`Engine::files`] returns |
//! | `<directory>/run` | [`SOCKETS`] | the socket that the agent connects to |
//!
//! The agent reaches the server through [`connect`] only. A server that authenticates it by the socket
//! needs no password; for others there is [`admin_password`].

mod admin_calls;
mod assess;
mod bounded_read;
mod containers;
mod data_copy;
mod datastore;
mod disk_locks;
mod driver;
mod host_paths;
mod lock_file;
mod monitors;
mod password;
mod readiness_probe;
mod safe_fs;
mod settings_record;
mod socket;
mod spec;
mod state_file;
mod templates;
mod upgrade_state;

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use trove_core::{
    datastore::{Accounts, Cx, GuestHost, Manifest, Prepare},
    error::{Error, Result},
    model::{Flavor, Parameter, Setting, Settings},
};

pub(crate) use admin_calls::{AdminCalls, wait_for_earlier_change};
pub(crate) use bounded_read::bounded_read;
pub use driver::ContainerDriver;
pub(crate) use host_paths::{failed, own};
pub(crate) use lock_file::open_lock_file;
pub(crate) use monitors::{blocking, free};
pub use password::admin_password;
pub(crate) use readiness_probe::{ConnectError, ConnectErrorReason, ProbeSession, ReadinessProbe};
pub(crate) use safe_fs::remove_tree;
pub use socket::connect;
#[cfg(feature = "conformance")]
pub(crate) use spec::DIRECTORY_LABEL;
pub(crate) use spec::{INSTANCE_LABEL, SCOPE_LABEL};

/// Where a server finds its rendered files.
pub const CONFIGURATION: &str = "/etc/trove";

/// Where a server creates its sockets.
pub const SOCKETS: &str = "/run/trove";

/// The user name of the agent in a server's user database, so that the server can authenticate it
/// by its socket credentials. It is also the administrator's name, because not every server can map
/// one to the other.
pub const AGENT: &str = "trove_admin";

/// The engine-specific behavior of a server. A value belongs to one instance, whose release and
/// flavor may change: methods that depend on them take the current [`GuestHost`].
///
/// An engine has to provide its [`manifest`](Self::manifest), a constructor ([`new`](Self::new)),
/// the command of its server ([`server_command`](Self::server_command)) and a readiness probe
/// ([`probe`](Self::probe)). The rest are abilities and deviations from the defaults.
#[async_trait]
pub trait Engine: Sized + Send + Sync + 'static {
    /// Returns what is known of the engine before any instance exists.
    fn manifest() -> Manifest;

    /// Refuses settings, like
    /// [`Driver::check_settings`](trove_core::datastore::Driver::check_settings). Pure.
    fn check_settings(_flavor: &Flavor, _settings: &Settings) -> Result<()> {
        Ok(())
    }

    /// Returns the engine of an instance, or of its scratch server. Creates nothing.
    fn new(host: &GuestHost) -> Self;

    /// Returns the path at which the server sees its volume. If the image declares a volume, this
    /// has to be its path.
    fn volume_target(&self) -> &str {
        "/data"
    }

    /// Returns the name of the data directory below the volume. It exists only when it is complete.
    fn data_directory(&self) -> &str {
        "data"
    }

    /// Returns the files to render into [`CONFIGURATION`] before every start and at every change of
    /// the settings, replaced one by one. The settings are valid according to the parameter
    /// catalog; values have to be quoted so that none ends early.
    fn files(&self, _host: &GuestHost, _settings: &Settings) -> Vec<ConfigFile> {
        Vec::new()
    }

    /// Returns the command that creates a new data directory at this path of the container. It runs
    /// without a network. `None` if an empty directory will do.
    fn init_command(&self, _host: &GuestHost, _data: &str) -> Option<Vec<String>> {
        None
    }

    /// Returns whether and how a freshly initialized data directory can be the template of others
    /// from the same image. `None` if each has to be initialized, as one with settings always is.
    fn template(&self) -> Option<Template> {
        None
    }

    /// Returns the command that runs the server on the data directory at this path of the
    /// container.
    fn server_command(&self, host: &GuestHost, data: &str) -> Vec<String>;

    /// Returns the environment of all commands, as `NAME=value`, including `PATH`.
    fn environment(&self, _host: &GuestHost) -> Vec<String> {
        vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()]
    }

    /// Returns the command that prints the version of the programs in an image.
    fn version_command(&self) -> Option<Vec<String>> {
        None
    }

    /// Returns the version in the output of that command, as numbers with dots; `None` if another
    /// engine printed it.
    fn read_version(&self, _output: &str) -> Option<String> {
        None
    }

    /// Refuses an existing data directory that the server cannot use, as
    /// [`Corrupt`](trove_core::error::Kind::Corrupt) or
    /// [`Conflict`](trove_core::error::Kind::Conflict). May block.
    fn check_data(&self, _host: &GuestHost, _data: &Path) -> Result<()> {
        Ok(())
    }

    /// Returns the signal for a clean shutdown.
    fn stop_signal(&self) -> &str {
        "SIGTERM"
    }

    /// Returns how long a clean shutdown may take before the server is killed.
    fn stop_limit(&self) -> Duration {
        Duration::from_secs(60)
    }

    /// Returns how long a start may take while the server is running; it may have to recover first.
    fn start_limit(&self) -> Duration {
        Duration::from_secs(600)
    }

    /// Returns the maximum number of processes and threads of the server.
    fn max_processes(&self, _host: &GuestHost) -> u32 {
        1024
    }

    /// Probes the server with an authenticated query. May hang if the server does; the caller sets
    /// a time limit.
    async fn probe(&self) -> Readiness;

    /// Lets clients write, if the server starts read-only. Called once the server answers and is
    /// known to be the one to write to. Can be repeated.
    async fn allow_writes(&self) -> Result<()> {
        Ok(())
    }

    /// Returns the line of a failed server's output that explains what is wrong with its settings. It
    /// is shown to the tenant; `None` if there is no such line or it could reveal too much.
    fn startup_error(&self, _output: &str) -> Option<String> {
        None
    }

    /// Frees space on the volume that nothing needs. Called while the server answers and its volume
    /// is nearly full.
    async fn reclaim_space(&self) -> Result<()> {
        Ok(())
    }

    /// Closes connections to the server, which is stopping or gone.
    fn disconnect(&self) {}

    /// Creates the databases and users that a new instance starts with. Can be repeated: existing
    /// ones are made to match.
    async fn provision(&self, _cx: &Cx, spec: &Prepare) -> Result<()> {
        if spec.databases.is_empty() && spec.users.is_empty() {
            Ok(())
        } else {
            Err(Error::unsupported("this datastore has no databases or users of its own"))
        }
    }

    /// Returns the databases and users of the server, if the engine has them.
    fn accounts(&self) -> Option<&dyn Accounts> {
        None
    }

    /// Returns the parameters of the server, if it has any that can be listed and set.
    fn parameters(&self) -> Option<&dyn Parameters> {
        None
    }

    /// Returns how the data of one version can be used by another. Pure. The same version stands
    /// for another image.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](trove_core::error::Kind::Unsupported) if it cannot.
    fn upgrade_path(&self, _from: &str, _to: &str) -> Result<UpgradePath> {
        Err(Error::unsupported("this datastore has no upgrades"))
    }

    /// Upgrades the data of a server that was just started with another release and answers.
    /// `helper` runs programs of the image beside it. Can be repeated.
    async fn migrate(&self, _cx: &Cx, _helper: &dyn Helper) -> Result<()> {
        Ok(())
    }
}

/// The parameters of a server, as the server itself reports them.
#[async_trait]
pub trait Parameters: Send + Sync {
    /// Reads all parameters from a scratch server, which may be changed at will. Parameters that
    /// the service controls are marked as [reserved](Parameter::reserved).
    async fn read(&self, cx: &Cx) -> Result<Vec<Parameter>>;

    /// Applies these values to a running server, with `None` for the default, and returns the names
    /// of those that take effect only after a restart. The rendered files already have the new
    /// settings.
    ///
    /// # Errors
    ///
    /// [`Invalid`](trove_core::error::Kind::Invalid) if the server rejects a value; the caller then
    /// applies the former values again.
    async fn set(&self, host: &GuestHost, changes: &[(String, Option<Setting>)]) -> Result<Vec<String>>;
}

/// How a data directory becomes a template, and a template a data directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// The options that affect the data besides the image. A template is used only if they are
    /// equal.
    pub options: String,
    /// The names of files that no two servers may share: identities and keys. A pattern may contain
    /// one `*`.
    pub individual: Vec<String>,
}

/// How the data of one version can be used by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradePath {
    /// Both versions use the data as it is, so a rollback is only another start.
    Compatible,
    /// The new version changes the data, so it is copied first.
    Changing,
}

impl UpgradePath {
    /// Returns the path for an engine whose later versions upgrade the data of earlier ones, and
    /// whose versions share the data if their first `numbers` are equal: `8.1.1` and `8.1.4` do
    /// with two.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](trove_core::error::Kind::Unsupported) for a downgrade.
    pub fn forward(from: &str, to: &str, numbers: usize) -> Result<Self> {
        let series = |version: &str| -> Vec<u32> {
            version.split('.').take(numbers).map(|number| number.parse().unwrap_or(0)).collect()
        };
        let (old, new) = (series(from), series(to));
        match old.iter().zip(&new).find(|(old, new)| old != new) {
            None => Ok(Self::Compatible),
            Some((old, new)) if old < new => Ok(Self::Changing),
            Some(_) => Err(Error::unsupported(format!("the data of version {from} cannot be used by version {to}"))),
        }
    }
}

/// Runs programs of an instance's image beside its server: as its user, with its files and its
/// socket, without a network.
#[async_trait]
pub trait Helper: Send + Sync {
    /// Runs a command to completion and returns its output.
    ///
    /// # Errors
    ///
    /// [`Internal`](trove_core::error::Kind::Internal) for a nonzero exit code.
    async fn run(&self, cx: &Cx, command: Vec<String>) -> Result<String>;
}

/// A configuration file. Only the server and the agent can read it; it must not contain secrets
/// that the server's users must not see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    /// The path below [`CONFIGURATION`]: a name, or a directory and a name.
    pub path: String,
    /// The content.
    pub content: String,
}

impl ConfigFile {
    /// Creates a file.
    pub fn new(path: impl Into<String>, content: impl Into<String>) -> Self {
        Self { path: path.into(), content: content.into() }
    }
}

/// The result of a readiness probe.
#[derive(Debug)]
pub enum Readiness {
    /// The server answered the query and accepts writes.
    Ready {
        /// The server's own version.
        version: String,
    },
    /// The server answered the query, but accepts no writes.
    ReadOnly {
        /// The server's own version.
        version: String,
    },
    /// The server is running and reports that it is not ready yet.
    Starting,
    /// The server did not answer.
    Unreachable(Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_upgraded_forward_by_series() {
        for (from, to, path) in [
            ("8.1.1", "8.1.4", Some(UpgradePath::Compatible)),
            ("8.1.4", "8.1", Some(UpgradePath::Compatible)),
            ("8.1.1", "9", Some(UpgradePath::Changing)),
            ("8.9", "8.10", Some(UpgradePath::Changing)),
            ("9.1.2", "8.1.1", None),
            ("9.1.2", "9.0.9", None),
        ] {
            assert_eq!(UpgradePath::forward(from, to, 2).ok(), path, "{from} {to}");
        }
    }
}
