//! Engines that run in a container: what all of them do alike, and the small trait by which they differ.
//!
//! An [`Engine`] tells which commands initialise and serve, which files to render and how to ask whether the server
//! answers. [`ContainerDriver`] makes a [`Driver`](trove_core::datastore::Driver) of it, which keeps the rules of the
//! contract. `examples/valkey/GUIDE.md` goes from an empty file to a certified driver.
//!
//! Containers come and go, what counts is on the volume: every start makes a fresh container with freshly rendered
//! files, and a stop removes it. The server sees three paths of the host and nothing else:
//!
//! | host | container | for |
//! |---|---|---|
//! | the volume | [`Engine::volume_target`] | the data, in a directory below ([`Engine::data_directory`]) |
//! | `<directory>/conf` | [`CONFIGURATION`], read-only | what [`Engine::files`] renders |
//! | `<directory>/run` | [`SOCKETS`] | the socket through which the agent administers |
//!
//! The agent reaches the server by [`connect`] only. A server that knows it by its socket needs no password; another has
//! [one of its own](admin_password).

mod admin_calls;
mod assess;
mod bounded_read;
mod containers;
mod data_copy;
mod datastore;
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
pub(crate) use spec::{INSTANCE_LABEL, SCOPE_LABEL};

/// Where a server finds its rendered files.
pub const CONFIGURATION: &str = "/etc/trove";

/// Where a server makes its sockets.
pub const SOCKETS: &str = "/run/trove";

/// The name by which a server's user database knows the user that the agent runs as, so that the server may trust it
/// by its socket credentials alone. It is the administrator's own name, because not every server can be told that one
/// stands for the other.
pub const AGENT: &str = "trove_admin";

/// What is special about one kind of server. One value belongs to one instance, whose release and flavor may change: what
/// follows from them is asked with the [`GuestHost`] as it is then.
///
/// An engine has to say what it is ([`manifest`](Self::manifest)), how one is made ([`new`](Self::new)), what serves
/// ([`serve`](Self::serve)) and whether that answers ([`ask`](Self::ask)). The rest are abilities, and what differs from
/// the usual.
#[async_trait]
pub trait Engine: Sized + Send + Sync + 'static {
    /// What is known of the engine before any instance exists.
    fn manifest() -> Manifest;

    /// Refuses settings, as [`Driver::check_settings`](trove_core::datastore::Driver::check_settings) does. Pure.
    fn check_settings(_flavor: &Flavor, _settings: &Settings) -> Result<()> {
        Ok(())
    }

    /// The engine of the server in this place. Makes nothing. The place may be that of a throw-away server.
    fn new(host: &GuestHost) -> Self;

    /// The path at which the server sees its volume. Where the image declares a volume, this has to be it.
    fn volume_target(&self) -> &str {
        "/data"
    }

    /// The directory of the data, below the volume. It exists only when it is whole.
    fn data_directory(&self) -> &str {
        "data"
    }

    /// The files to render into [`CONFIGURATION`] before every start and at every change of the settings, replaced one by
    /// one. The settings fit the catalog; they are rendered so that nothing in a value ends it early.
    fn files(&self, _host: &GuestHost, _settings: &Settings) -> Vec<ConfigFile> {
        Vec::new()
    }

    /// The command that makes a new data directory at this path of the container; it runs without a network. `None`
    /// where an empty directory will do.
    fn init_command(&self, _host: &GuestHost, _data: &str) -> Option<Vec<String>> {
        None
    }

    /// Whether and how a data directory that was just initialised may serve as the template of others from the same
    /// image. `None` where each has to be made by itself, as one with settings always is.
    fn template(&self) -> Option<Template> {
        None
    }

    /// The command that serves the data directory at this path of the container.
    fn server_command(&self, host: &GuestHost, data: &str) -> Vec<String>;

    /// Environment of all commands, as `NAME=value`. `PATH` belongs into it.
    fn environment(&self, _host: &GuestHost) -> Vec<String> {
        vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()]
    }

    /// The command by which the programs of an image tell their version.
    fn version_command(&self) -> Option<Vec<String>> {
        None
    }

    /// The version in what that command wrote, as numbers with dots; `None` where another engine wrote it.
    fn read_version(&self, _output: &str) -> Option<String> {
        None
    }

    /// Refuses a data directory that the server could not use, as [`Corrupt`](trove_core::error::Kind::Corrupt) or
    /// [`Conflict`](trove_core::error::Kind::Conflict). It exists. May block.
    fn check_data(&self, _host: &GuestHost, _data: &Path) -> Result<()> {
        Ok(())
    }

    /// The signal for a clean stop.
    fn stop_signal(&self) -> &str {
        "SIGTERM"
    }

    /// How long a clean stop may take before the server is killed.
    fn stop_limit(&self) -> Duration {
        Duration::from_secs(60)
    }

    /// How long a start may take while the server lives; it may have to recover first.
    fn start_limit(&self) -> Duration {
        Duration::from_secs(600)
    }

    /// The most processes and threads the server may have.
    fn max_processes(&self, _host: &GuestHost) -> u32 {
        1024
    }

    /// Asks the server an authenticated query. May hang where the server does; the caller limits it.
    async fn probe(&self) -> Readiness;

    /// Lets clients write, where the server comes up read-only. Called once it answers and it is known that it should;
    /// may be repeated.
    async fn allow_writes(&self) -> Result<()> {
        Ok(())
    }

    /// The line in what a server wrote before it ended that tells what is wrong with its settings. It is told to the
    /// tenant; `None` where there is no such line, or it may hold more than the tenant should see.
    fn startup_error(&self, _output: &str) -> Option<String> {
        None
    }

    /// Frees what the server keeps on its volume and nobody needs yet. Called while it answers and its volume is nearly
    /// full.
    async fn reclaim_space(&self) -> Result<()> {
        Ok(())
    }

    /// Lets go of connections to the server, which is stopped or gone.
    fn disconnect(&self) {}

    /// Creates what a new instance is asked to begin with. May be repeated: what exists already is made to fit.
    async fn provision(&self, _cx: &Cx, spec: &Prepare) -> Result<()> {
        if spec.databases.is_empty() && spec.users.is_empty() {
            Ok(())
        } else {
            Err(Error::unsupported("this datastore has no databases or users of its own"))
        }
    }

    /// Databases and users, where the engine has them.
    fn accounts(&self) -> Option<&dyn Accounts> {
        None
    }

    /// Parameters of the server, where it has any that can be told and set.
    fn parameters(&self) -> Option<&dyn Parameters> {
        None
    }

    /// How a server of one version becomes one of another on the same data:
    /// [`Unsupported`](trove_core::error::Kind::Unsupported) where it cannot. Pure; the same version is another image.
    fn upgrade_path(&self, _from: &str, _to: &str) -> Result<UpgradePath> {
        Err(Error::unsupported("this datastore has no upgrades"))
    }

    /// Brings the data of a server that another release was just started on, and that answers, up to date. `helper` runs
    /// programs of the image beside it. May be repeated.
    async fn migrate(&self, _cx: &Cx, _helper: &dyn Helper) -> Result<()> {
        Ok(())
    }
}

/// What can be set of a server, asked of the server itself.
#[async_trait]
pub trait Parameters: Send + Sync {
    /// All parameters, told by a server that nobody uses, may be changed at will and is removed afterwards. The service's
    /// own are [reserved](Parameter::reserved).
    async fn read(&self, cx: &Cx) -> Result<Vec<Parameter>>;

    /// Has a running server use these values at once, `None` being what it has without one, and returns the names of
    /// those that it can use only after a restart. The files are those of the new settings already.
    ///
    /// [`Invalid`](trove_core::error::Kind::Invalid) where the server refuses one; the caller then has it use the former
    /// values again.
    async fn set(&self, host: &GuestHost, changes: &[(String, Option<Setting>)]) -> Result<Vec<String>>;
}

/// How a data directory is made a template, and a template a data directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// What besides the image makes two data directories differ; a template is only used where it is the same.
    pub options: String,
    /// The names of files in the data directory that no two servers may share: identities and keys. A pattern may begin
    /// with `*`.
    pub individual: Vec<String>,
}

/// How data gets from one version to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradePath {
    /// Both use it as it is, so that going back is only another start.
    Compatible,
    /// The new version changes it, so that it is copied before.
    Changing,
}

impl UpgradePath {
    /// The path of an engine whose later versions take over the data of earlier ones, and whose versions with the same
    /// first `numbers` share it: `8.1.1` and `8.1.4` do by two. [`Unsupported`](trove_core::error::Kind::Unsupported)
    /// for the way back.
    pub fn forward(from: &str, to: &str, numbers: usize) -> Result<Self> {
        let series = |version: &str| -> Vec<u32> {
            version.split('.').take(numbers).map(|number| number.parse().unwrap_or(0)).collect()
        };
        let (old, new) = (series(from), series(to));
        match old.iter().zip(&new).find(|(old, new)| old != new) {
            None => Ok(Self::Compatible),
            Some((old, new)) if old < new => Ok(Self::Changing),
            Some(_) => Err(Error::unsupported(format!("the data of version {from} cannot be that of version {to}"))),
        }
    }
}

/// Runs programs of an instance's image, beside its server: as its user, with its files and its socket, without a
/// network.
#[async_trait]
pub trait Helper: Send + Sync {
    /// Runs a command to its end and returns what it wrote. An exit code that is not 0 is
    /// [`Internal`](trove_core::error::Kind::Internal).
    async fn run(&self, cx: &Cx, command: Vec<String>) -> Result<String>;
}

/// A file that an engine wants rendered. Only the server and the agent can read it; it must hold no secret that the
/// server's users are not to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    /// Its path below [`CONFIGURATION`]: a name, or a directory and a name.
    pub path: String,
    /// What it holds.
    pub content: String,
}

impl ConfigFile {
    /// A file.
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
    fn data_goes_forward_by_series() {
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
