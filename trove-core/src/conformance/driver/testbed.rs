use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    conformance::Tier,
    datastore::{Driver, GuestHost, Release},
    error::Result,
    model::Setting,
};

/// The environment of a driver under test: hosts for its servers, client sessions, and faults.
///
/// The suite uses the testbed for everything that it must not learn from the driver itself. Cases
/// run concurrently, each with hosts of its own. The [module page](super) has an example.
#[async_trait]
pub trait DriverTestbed: Send + Sync + 'static {
    /// Returns the driver under test.
    fn driver(&self) -> &Arc<dyn Driver>;

    /// Allocates an empty host for a new instance.
    async fn allocate(&self) -> Result<GuestHost>;

    /// Deletes the server on a host, if there is one, and releases the host.
    async fn release(&self, host: &GuestHost) -> Result<()>;

    /// Lists the resources of an instance other than its host and its data, such as processes,
    /// containers, rendered files and mounts.
    ///
    /// The suite asserts that a removed server leaves none, and prints them if it does.
    async fn leftovers(&self, host: &GuestHost) -> Result<Vec<String>>;

    /// Opens a session as a tenant's client. Called only if the driver supports accounts. A
    /// rejected login is an error of any kind.
    async fn connect(&self, host: &GuestHost, login: &ClientLogin) -> Result<Box<dyn ClientSession>>;

    /// Injects a fault into the server, without the driver's help.
    ///
    /// # Errors
    ///
    /// Returns [`Unsupported`](crate::error::Kind::Unsupported) for a fault that the testbed cannot
    /// inject; the cases that need it are then skipped.
    async fn inject(&self, host: &GuestHost, fault: ServerFault) -> Result<()>;

    /// Returns everything of an instance that an operator can read: the logs of its server and of
    /// helper processes, the descriptions of processes and containers, and every file that is not
    /// the tenant's data. The suite searches it for secrets.
    async fn artifacts(&self, host: &GuestHost) -> Result<Vec<Artifact>>;

    /// Returns the parameters and values that the suite sets.
    fn sample_settings(&self) -> SampleSettings {
        SampleSettings::default()
    }

    /// Returns a release to upgrade the server to. Without one, most cases about upgrades are
    /// skipped.
    fn upgrade_target(&self) -> Option<Release> {
        None
    }

    /// Returns the name of an image that is known not to exist. Without one, the suite uses a name
    /// in a registry that does not exist.
    fn missing_image(&self) -> Option<String> {
        None
    }

    /// Returns the time limits and repetition counts.
    fn options(&self) -> SuiteOptions {
        SuiteOptions::default()
    }
}

/// The credentials of a client, and the database to connect to.
#[derive(Clone, Debug)]
pub struct ClientLogin {
    /// The user name.
    pub user: String,
    /// The password.
    pub password: String,
    /// The database. `None` if the engine has no databases or the user may use none.
    pub database: Option<String>,
}

/// A client session with a server.
///
/// The suite stores texts by name. A session keeps them in a table of its database, or as keys if
/// the engine has no tables. The first writer creates the table, and all users of the database may
/// read and write it.
#[async_trait]
pub trait ClientSession: Send {
    /// Writes a text, replacing the one of the same name.
    async fn put(&mut self, name: &str, text: &str) -> Result<()>;

    /// Reads a text. Returns `None` if there is none of that name.
    async fn get(&mut self, name: &str) -> Result<Option<String>>;

    /// Queries the server for the user and the database of this session.
    async fn current_user(&mut self) -> Result<(String, Option<String>)>;

    /// Queries the server for the effective value of a parameter.
    async fn parameter(&mut self, name: &str) -> Result<String>;
}

/// A fault to inject into a server, or its removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerFault {
    /// Kills the process of the server.
    Kill,
    /// Suspends the process of the server, as `SIGSTOP` does. Its sockets stay open.
    Suspend,
    /// Resumes a suspended process.
    Resume,
    /// Fills the volume.
    FillVolume,
    /// Deletes the files that filled the volume.
    FreeVolume,
    /// Deletes the container or process of the server without the driver's knowledge, but not its
    /// data.
    RemoveServer,
    /// Stops the server and deletes its data.
    DeleteData,
}

/// Content that an operator can read, such as a file or a log.
pub struct Artifact {
    /// The location, such as a path. Printed if a secret is found.
    pub location: String,
    /// The content.
    pub content: Vec<u8>,
}

impl fmt::Debug for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Artifact").field("location", &self.location).field("bytes", &self.content.len()).finish()
    }
}

/// The parameters that the suite sets on servers. Cases that need an absent one are skipped.
///
/// Every value must be valid according to the catalog. The values of `dynamic` and `restart` must
/// have the form in which [`ClientSession::parameter`] returns them.
///
/// ```
/// use trove_core::conformance::driver::SampleSettings;
///
/// let mut samples = SampleSettings::default();
/// samples.dynamic = Some(("work_mem".to_owned(), 2048.into(), 3072.into()));
/// samples.restart = Some(("max_locks_per_transaction".to_owned(), 77.into(), 78.into()));
/// samples.rejected = Some(("DateStyle".to_owned(), "never".into()));
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SampleSettings {
    /// A parameter that a running server applies immediately, with two values, neither of which is
    /// the default.
    pub dynamic: Option<(String, Setting, Setting)>,
    /// A parameter that requires a restart, with two values.
    pub restart: Option<(String, Setting, Setting)>,
    /// A parameter with a value that the catalog allows but the running server rejects.
    pub rejected: Option<(String, Setting)>,
    /// A parameter with a value that the catalog allows but that prevents the server from starting.
    pub fatal: Option<(String, Setting)>,
}

/// The time limits and repetition counts of the suite.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SuiteOptions {
    /// The time limit of one case. Ends cases in which a driver hangs; it is not a performance
    /// requirement.
    pub case_timeout: Duration,
    /// The number of cases that [`certify`](super::certify) runs concurrently, each with a server
    /// of its own.
    pub concurrency: usize,
    /// The number of await points at which a call is dropped.
    pub cancellation_points: usize,
    /// The same for calls whose effects take the start of a server, or longer, to restore.
    pub slow_cancellation_points: usize,
    /// The time limit of one observation of a server, whatever state it is in.
    pub observe_timeout: Duration,
}

impl SuiteOptions {
    /// Returns the options for a tier.
    pub fn for_tier(tier: Tier) -> Self {
        let (cancellation_points, slow_cancellation_points) = match tier {
            Tier::Quick => (2, 1),
            Tier::Full => (8, 3),
        };
        Self {
            case_timeout: Duration::from_secs(600),
            concurrency: 2,
            cancellation_points,
            slow_cancellation_points,
            observe_timeout: Duration::from_secs(60),
        }
    }
}

impl Default for SuiteOptions {
    fn default() -> Self {
        Self::for_tier(Tier::Full)
    }
}

impl ClientLogin {
    /// Creates the login of a user without a database.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: user.into(), password: password.into(), database: None }
    }

    /// Sets the database to connect to.
    #[must_use]
    pub fn database(mut self, name: impl Into<String>) -> Self {
        self.database = Some(name.into());
        self
    }
}
