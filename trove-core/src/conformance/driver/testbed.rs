use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    datastore::{Driver, GuestHost, Release},
    error::Result,
    model::Setting,
};

/// Where the servers of a driver under test live: what the suite has to do behind the driver's back.
///
/// One that cannot do something says [`Unsupported`](crate::error::Kind::Unsupported), and the cases that need it are
/// skipped.
#[async_trait]
pub trait Testbed: Send + Sync + 'static {
    /// The driver under test.
    fn driver(&self) -> &Arc<dyn Driver>;

    /// A place for one more instance, with nothing in it.
    async fn place(&self) -> Result<GuestHost>;

    /// Gives a place back, with whatever is still there.
    async fn clear(&self, host: &GuestHost) -> Result<()>;

    /// What there is of an instance besides its place and its data, each in words: what runs, what is rendered, what is
    /// mounted.
    async fn residue(&self, host: &GuestHost) -> Result<Vec<String>>;

    /// A session of a tenant's client. A login that the server refuses is an error of any kind.
    async fn connect(&self, host: &GuestHost, login: &Login) -> Result<Box<dyn Session>>;

    /// Does this to the server.
    async fn harm(&self, host: &GuestHost, harm: Harm) -> Result<()>;

    /// All that is readable of an instance: what its server and its helpers wrote, how their processes and containers are
    /// described, every file that is not the tenant's data. Secrets are searched for in it.
    async fn traces(&self, host: &GuestHost) -> Result<Vec<Trace>>;

    /// What to try settings with.
    fn samples(&self) -> Samples {
        Samples::default()
    }

    /// A release to upgrade to.
    fn upgrade(&self) -> Option<Release> {
        None
    }

    /// An image that does not exist, where it is known that it does not.
    fn missing_image(&self) -> Option<String> {
        None
    }

    /// What the suite may take of time.
    fn pace(&self) -> Pace {
        Pace::default()
    }
}

/// Whom a client says it is.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user.
    pub user: String,
    /// With this password.
    pub password: String,
    /// In this database; `None` where the datastore has none, or for a user that has none.
    pub database: Option<String>,
}

/// A tenant's session with a server. It holds a table of texts by name in each database, made by whoever writes first,
/// which all users of the database may use.
#[async_trait]
pub trait Session: Send {
    /// Writes a text.
    async fn put(&mut self, name: &str, text: &str) -> Result<()>;

    /// Reads one; `None` where there is none.
    async fn get(&mut self, name: &str) -> Result<Option<String>>;

    /// The user and the database, as the server tells them.
    async fn whoami(&mut self) -> Result<(String, Option<String>)>;

    /// The value of a parameter that is in force.
    async fn parameter(&mut self, name: &str) -> Result<String>;
}

/// What happens to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// Its process is killed.
    Kill,
    /// Its process is suspended; its sockets stay.
    Freeze,
    /// It goes on.
    Thaw,
    /// Its volume is filled up.
    Fill,
    /// What filled it is taken away.
    Drain,
    /// What it runs in is removed, as by a careless operator.
    Lose,
    /// It is stopped, and its data is gone.
    LoseData,
}

/// Something readable, and where it was found.
pub struct Trace {
    /// Where.
    pub place: String,
    /// What.
    pub content: Vec<u8>,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("place", &self.place).field("bytes", &self.content.len()).finish()
    }
}

/// Settings that the server has, and what it does with them. What is absent is not tried.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Samples {
    /// A parameter that a running server takes at once, and two values as it shows them; none is the default.
    pub live: Option<(String, Setting, Setting)>,
    /// One that needs a restart, with two values.
    pub restart: Option<(String, Setting, Setting)>,
    /// One with a value that the catalog allows and the running server refuses.
    pub refused: Option<(String, Setting)>,
    /// One with a value with which the server does not start.
    pub fatal: Option<(String, Setting)>,
}

/// What the suite may take of time.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Pace {
    /// How long one case may take.
    pub case: Duration,
    /// How many cases run at a time, each on a server of its own.
    pub lanes: usize,
    /// At how many of its awaits a long call is dropped; a short one is at each.
    pub drops: usize,
    /// The same of a call after which a server has to be started, or more, before the next can be made.
    pub slow_drops: usize,
    /// How long it may take to look at a server, whatever it does.
    pub look: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { case: Duration::from_secs(180), lanes: 2, drops: 8, slow_drops: 3, look: Duration::from_secs(10) }
    }
}

impl Login {
    /// A user with a password.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: user.into(), password: password.into(), database: None }
    }

    /// The same in this database.
    #[must_use]
    pub fn database(mut self, name: impl Into<String>) -> Self {
        self.database = Some(name.into());
        self
    }
}
