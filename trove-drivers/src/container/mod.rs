//! Engines that run in a container: what all of them do alike, and the small trait by which they differ.
//!
//! An [`Engine`] tells which commands initialise and serve, which files to render and how to ask whether the server
//! answers. [`ContainerDatastore`] makes a [`Datastore`](trove_core::datastore::Datastore) of it.
//!
//! Containers come and go, what counts is on the volume: every start makes a fresh container with freshly rendered
//! files, and a stop removes it. The server sees three places of the host and nothing else:
//!
//! | host | container | for |
//! |---|---|---|
//! | the volume | [`Engine::volume_target`] | the data, in a directory below ([`Engine::data_directory`]) |
//! | `<directory>/conf` | [`CONFIGURATION`], read-only | what [`Engine::files`] renders |
//! | `<directory>/run` | [`SOCKETS`] | the socket through which the agent administers |

mod datastore;
mod gauges;
mod observe;
mod places;
mod spec;
mod tree;

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use trove_core::{
    datastore::{Accounts, Cx, Prepare},
    error::{Error, Result},
};

pub use datastore::ContainerDatastore;
pub(crate) use gauges::{blocking, free};
pub(crate) use places::{failed, own};
pub(crate) use spec::{INSTANCE_LABEL, SCOPE_LABEL};
pub(crate) use tree::remove_tree;

/// Where a server finds its rendered files.
pub const CONFIGURATION: &str = "/etc/trove";

/// Where a server makes its sockets.
pub const SOCKETS: &str = "/run/trove";

/// The name by which a server's user database knows the user that the agent runs as, so that the server may trust it
/// by its socket credentials alone.
pub const AGENT: &str = "agent";

/// What is special about one kind of server. One value belongs to one instance.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// What the datastore is called, as in its manifest.
    fn name(&self) -> &str;

    /// The path at which the server sees its volume. Where the image declares a volume, this has to be it.
    fn volume_target(&self) -> &str;

    /// The directory of the data, below the volume. It exists only when it is whole.
    fn data_directory(&self) -> &str {
        "data"
    }

    /// The port the server listens on.
    fn port(&self) -> u16;

    /// The files to render into [`CONFIGURATION`] before every start, replaced one by one.
    fn files(&self) -> Vec<ConfigFile> {
        Vec::new()
    }

    /// The command that makes a new data directory at this path of the container; it runs without a network. `None`
    /// where an empty directory will do.
    fn initialise(&self, data: &str) -> Option<Vec<String>>;

    /// The command that serves the data directory at this path of the container.
    fn serve(&self, data: &str) -> Vec<String>;

    /// Environment of both commands, as `NAME=value`. `PATH` belongs into it.
    fn environment(&self) -> Vec<String> {
        vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()]
    }

    /// Refuses a data directory that the server could not use, as [`Corrupt`](trove_core::error::Kind::Corrupt) or
    /// [`Conflict`](trove_core::error::Kind::Conflict). It exists. May block.
    fn check_data(&self, _data: &Path) -> Result<()> {
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
    fn processes(&self) -> u32 {
        1024
    }

    /// Asks the server an authenticated query. May hang where the server does; the caller limits it.
    async fn ask(&self) -> Answer;

    /// Lets go of connections to the server, which is stopped or gone.
    fn forget(&self) {}

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

/// What a server said when it was asked.
#[derive(Debug)]
pub enum Answer {
    /// It answered the query and runs this version of itself.
    Yes {
        /// The server's own version.
        version: String,
    },
    /// It is there and says that it is not ready yet.
    NotYet,
    /// It did not answer.
    No(Error),
}
