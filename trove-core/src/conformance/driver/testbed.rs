use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    conformance::Tier,
    datastore::{Driver, GuestHost, Release},
    error::Result,
    model::Setting,
};

/// The hosts of the servers of a driver under test, and all that the suite does without the driver.
///
/// A testbed returns [`Unsupported`](crate::error::Kind::Unsupported) for what it cannot do, and the cases that need it
/// are skipped.
#[async_trait]
pub trait Testbed: Send + Sync + 'static {
    /// Returns the driver under test.
    fn driver(&self) -> &Arc<dyn Driver>;

    /// Allocates an empty host for one more instance.
    async fn allocate(&self) -> Result<GuestHost>;

    /// Releases a host with whatever is still on it.
    async fn release(&self, host: &GuestHost) -> Result<()>;

    /// Lists what there is of an instance besides its host and its data: containers, rendered files, mounts.
    async fn leftovers(&self, host: &GuestHost) -> Result<Vec<String>>;

    /// Opens a session of a tenant's client. A login that the server refuses is an error of any kind.
    async fn connect(&self, host: &GuestHost, login: &ClientLogin) -> Result<Box<dyn ClientSession>>;

    /// Injects a fault into the server.
    async fn inject(&self, host: &GuestHost, fault: Fault) -> Result<()>;

    /// Returns all that is readable of an instance: logs of its server and its helpers, descriptions of their processes
    /// and containers, every file that is not the tenant's data. The suite searches it for secrets.
    async fn artifacts(&self, host: &GuestHost) -> Result<Vec<Artifact>>;

    /// Returns settings to try.
    fn sample_settings(&self) -> SampleSettings {
        SampleSettings::default()
    }

    /// Returns a release to upgrade to.
    fn upgrade_target(&self) -> Option<Release> {
        None
    }

    /// Returns the name of an image that is known not to exist.
    fn missing_image(&self) -> Option<String> {
        None
    }

    /// Returns limits and repetition counts.
    fn options(&self) -> SuiteOptions {
        SuiteOptions::default()
    }
}

/// What a client logs in with.
#[derive(Clone, Debug)]
pub struct ClientLogin {
    /// The user.
    pub user: String,
    /// Its password.
    pub password: String,
    /// The database; `None` where the datastore has none, or for a user that has none.
    pub database: Option<String>,
}

/// A tenant's session with a server. There is a table of texts by name in each database, created by the first writer,
/// which all users of the database may use.
#[async_trait]
pub trait ClientSession: Send {
    /// Writes a text.
    async fn put(&mut self, name: &str, text: &str) -> Result<()>;

    /// Reads a text; `None` where there is none.
    async fn get(&mut self, name: &str) -> Result<Option<String>>;

    /// Returns the user and the database that the server reports.
    async fn current_user(&mut self) -> Result<(String, Option<String>)>;

    /// Returns the effective value of a parameter.
    async fn parameter(&mut self, name: &str) -> Result<String>;
}

/// A fault to inject into a server, or the end of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Kills its process.
    Kill,
    /// Suspends its process; its sockets stay open.
    Suspend,
    /// Resumes a suspended process.
    Resume,
    /// Fills its volume.
    FillVolume,
    /// Frees what filled the volume.
    FreeVolume,
    /// Removes what it runs in, as a careless operator would, but not its data.
    RemoveServer,
    /// Stops it and deletes its data.
    DeleteData,
}

/// Something readable, and where it was found.
pub struct Artifact {
    /// Where.
    pub location: String,
    /// What.
    pub content: Vec<u8>,
}

impl fmt::Debug for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Artifact").field("location", &self.location).field("bytes", &self.content.len()).finish()
    }
}

/// Parameters of the server with values to try. Cases about absent ones are skipped.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SampleSettings {
    /// A parameter that a running server changes at once, and two values as it shows them; neither is the default.
    pub dynamic: Option<(String, Setting, Setting)>,
    /// A parameter that needs a restart, with two values.
    pub restart: Option<(String, Setting, Setting)>,
    /// A parameter with a value that the catalog allows and the running server rejects.
    pub rejected: Option<(String, Setting)>,
    /// A parameter with a value with which the server does not start.
    pub fatal: Option<(String, Setting)>,
}

/// Limits and repetition counts of the suite.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SuiteOptions {
    /// The time limit of one case. It bounds how long a broken driver hangs, and measures nothing.
    pub case_timeout: Duration,
    /// How many cases [`certify`](super::certify) runs at a time, each on a server of its own.
    pub concurrency: usize,
    /// At how many of its awaits a call is dropped.
    pub cancellation_points: usize,
    /// The same for a call after which a server has to be started, or more, before the next one.
    pub slow_cancellation_points: usize,
    /// The time limit of one observation of a server, whatever state it is in.
    pub observe_timeout: Duration,
}

impl SuiteOptions {
    /// Returns the options of a tier.
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
    /// A user with a password.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: user.into(), password: password.into(), database: None }
    }

    /// Sets the database.
    #[must_use]
    pub fn database(mut self, name: impl Into<String>) -> Self {
        self.database = Some(name.into());
        self
    }
}
