use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ByteSize, SettingsState};

/// What is known of a database server's ability to serve, as opposed to what the control plane intends with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Nothing is known: no report yet, reports have stopped, or what would tell does not answer.
    Unknown(Problem),
    /// The server is on its way up.
    Starting,
    /// The server answered an authenticated query.
    Healthy,
    /// The server answers but does not serve as it should.
    Impaired(Problem),
    /// The server does not serve.
    Down(Problem),
    /// The server was stopped on request.
    Stopped,
}

impl Health {
    /// What is wrong, if anything is.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Unknown(problem) | Self::Impaired(problem) | Self::Down(problem) => Some(problem),
            Self::Starting | Self::Healthy | Self::Stopped => None,
        }
    }
}

/// Why an instance is not healthy: a condition to act on and a sentence to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What to act on.
    pub condition: Condition,
    /// What to read. Holds no secret.
    pub message: String,
}

impl Problem {
    /// A problem with its explanation.
    pub fn new(condition: Condition, message: impl Into<String>) -> Self {
        Self { condition, message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The kinds of [`Problem`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Condition {
    /// The guest agent has not reported for too long.
    NoReport,
    /// The platform's runtime (the Docker daemon, say) does not answer.
    RuntimeUnavailable,
    /// The server was killed.
    Killed,
    /// The server ended by itself or was stopped from outside.
    Exited,
    /// The kernel killed the server, or a part of it, for want of memory.
    OutOfMemory,
    /// The server is suspended.
    Paused,
    /// What the server runs in was removed.
    Removed,
    /// The server runs but does not answer.
    NotAnswering,
    /// The volume has no room left.
    DiskFull,
    /// The data directory is missing or is another engine's.
    DataMissing,
    /// The server does not start.
    StartFailed,
    /// The server answers and lets nobody write, although it should.
    ReadOnly,
}

/// How full a volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// What the instance's files take up; `None` where that was not measured this time.
    pub used: Option<ByteSize>,
    /// What can still be written.
    pub free: ByteSize,
}

/// What a driver saw of its server at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Observed {
    /// Whether it serves.
    pub health: Health,
    /// The server's own version, where it answered.
    pub server_version: Option<String>,
    /// How full its volume is, where that could be read.
    pub disk: Option<Disk>,
    /// How its settings stand, where it has any and that could be told.
    pub settings: Option<SettingsState>,
}

impl Observed {
    /// An observation of health alone.
    pub fn new(health: Health) -> Self {
        Self { health, server_version: None, disk: None, settings: None }
    }

    /// Adds the server's version.
    #[must_use]
    pub fn server_version(mut self, version: Option<String>) -> Self {
        self.server_version = version;
        self
    }

    /// Adds how the settings stand.
    #[must_use]
    pub fn settings(mut self, settings: Option<SettingsState>) -> Self {
        self.settings = settings;
        self
    }

    /// Adds how full the volume is.
    #[must_use]
    pub fn disk(mut self, disk: Option<Disk>) -> Self {
        self.disk = disk;
        self
    }
}
