use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ByteSize, SettingsState};

/// The observed health of a database server, as opposed to its intended
/// [state](crate::lifecycle::State).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// The health is unknown: no report yet, reports have stopped, or the container engine does not
    /// respond.
    Unknown(Problem),
    /// The server is starting.
    Starting,
    /// The server answered an authenticated query.
    Healthy,
    /// The server answers queries, but not all of its functions work.
    Impaired(Problem),
    /// The server does not answer queries.
    Down(Problem),
    /// The server was stopped on request.
    Stopped,
}

impl Health {
    /// Returns the problem, if there is one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Unknown(problem) | Self::Impaired(problem) | Self::Down(problem) => Some(problem),
            Self::Starting | Self::Healthy | Self::Stopped => None,
        }
    }
}

/// The reason why an instance is not healthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The condition, for callers to match on.
    pub condition: Condition,
    /// The message for the user. Contains no secrets.
    pub message: String,
}

impl Problem {
    /// Creates a problem.
    pub fn new(condition: Condition, message: impl Into<String>) -> Self {
        Self { condition, message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The kind of a [`Problem`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Condition {
    /// The guest agent has not reported for too long.
    NoReport,
    /// The runtime of the platform, for example the Docker daemon, does not respond.
    RuntimeUnavailable,
    /// The server was killed.
    Killed,
    /// The server exited or was stopped by another party.
    Exited,
    /// The kernel killed the server or one of its processes because memory was exhausted.
    OutOfMemory,
    /// The server is paused.
    Paused,
    /// The container of the server was removed.
    Removed,
    /// The server runs but does not answer queries.
    NotAnswering,
    /// The volume is full.
    DiskFull,
    /// The data directory is missing or belongs to another engine.
    DataMissing,
    /// The server fails to start.
    StartFailed,
    /// The server is read-only although it should be writable.
    ReadOnly,
}

/// The disk usage of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// The size of the instance's files; `None` if it was not measured this time.
    pub used: Option<ByteSize>,
    /// The free space.
    pub free: ByteSize,
}

/// An observation of a server by its driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Observed {
    /// The health.
    pub health: Health,
    /// The version that the server reported, if it answered.
    pub server_version: Option<String>,
    /// The disk usage, if it could be read.
    pub disk: Option<Disk>,
    /// The settings state, if the datastore has settings and the state could be read.
    pub settings: Option<SettingsState>,
}

impl Observed {
    /// Creates an observation with a health only.
    pub fn new(health: Health) -> Self {
        Self { health, server_version: None, disk: None, settings: None }
    }

    /// Sets the version of the server.
    #[must_use]
    pub fn server_version(mut self, version: Option<String>) -> Self {
        self.server_version = version;
        self
    }

    /// Sets the settings state.
    #[must_use]
    pub fn settings(mut self, settings: Option<SettingsState>) -> Self {
        self.settings = settings;
        self
    }

    /// Sets the disk usage.
    #[must_use]
    pub fn disk(mut self, disk: Option<Disk>) -> Self {
        self.disk = disk;
        self
    }
}
