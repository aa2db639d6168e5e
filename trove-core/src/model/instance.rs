use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AssignedSettings, ByteSize, Disk, Health, SettingsState};
use crate::{
    id::{ConfigurationId, InstanceId},
    lifecycle::State,
};

/// A database instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Instance {
    /// The id. Names are labels: two instances may have the same name.
    pub id: InstanceId,
    /// The tenant that owns the instance.
    pub project: String,
    /// The name.
    pub name: String,
    /// The name of the datastore, as its driver declares it.
    pub datastore: String,
    /// The name of the datastore version in the registry of versions.
    pub version: String,
    /// The version number.
    pub version_number: String,
    /// The image.
    pub image: String,
    /// The memory and CPUs.
    pub flavor: Flavor,
    /// The size of the volume.
    pub volume: ByteSize,
    /// Whether other machines may connect.
    pub public: bool,
    /// The lifecycle state, which the control plane sets.
    pub state: State,
    /// The health that the guest last reported; [`Health::Unknown`] if the report is too old.
    pub health: Health,
    /// The time of the last report.
    pub reported_at: Option<Timestamp>,
    /// The version that the server last reported.
    pub server_version: Option<String>,
    /// The last measured disk usage.
    pub disk: Option<Disk>,
    /// The endpoint for clients.
    pub endpoint: Option<Endpoint>,
    /// The configuration group that is assigned or being assigned.
    pub configuration: Option<ConfigurationId>,
    /// The last assigned settings, with the revision of their group. A revision that the server
    /// rejected counts as assigned; the settings are then the effective ones, and
    /// [`fault`](Self::fault) has the reason.
    pub assigned_settings: AssignedSettings,
    /// The settings state that the guest last reported.
    pub settings: SettingsState,
    /// The failure of the last operation; cleared by the next one that succeeds.
    pub fault: Option<Fault>,
    /// When the instance was requested.
    pub created_at: Timestamp,
    /// When the control plane last changed the instance.
    pub updated_at: Timestamp,
    /// The fencing epoch of the last claim of an operation on the instance.
    pub epoch: u64,
}

impl Instance {
    /// Creates an instance in state [`Build`](State::Build) and project `default`.
    pub fn new(
        id: InstanceId,
        name: impl Into<String>,
        datastore: impl Into<String>,
        flavor: Flavor,
        volume: ByteSize,
        at: Timestamp,
    ) -> Self {
        Self {
            id,
            project: "default".to_owned(),
            name: name.into(),
            datastore: datastore.into(),
            version: String::new(),
            version_number: String::new(),
            image: String::new(),
            flavor,
            volume,
            public: false,
            state: State::Build,
            health: Health::Starting,
            reported_at: None,
            server_version: None,
            disk: None,
            endpoint: None,
            configuration: None,
            assigned_settings: AssignedSettings::default(),
            settings: SettingsState::default(),
            fault: None,
            created_at: at,
            updated_at: at,
            epoch: 0,
        }
    }

    /// Returns the status: a summary of state and health.
    pub fn status(&self) -> Status {
        match self.state {
            State::Build => Status::Build,
            State::Restarting => Status::Restarting,
            State::Stopping => Status::Stopping,
            State::Stopped => Status::Stopped,
            State::Starting => Status::Starting,
            State::Configuring => Status::Configuring,
            State::Upgrading => Status::Upgrading,
            State::Resizing => Status::Resizing,
            State::Rotating => Status::Rotating,
            State::Deleting => Status::Deleting,
            State::Error => Status::Error,
            State::Active => match &self.health {
                Health::Healthy => Status::Active,
                Health::Starting => Status::Starting,
                Health::Impaired(_) => Status::Impaired,
                Health::Down(_) | Health::Stopped => Status::Down,
                Health::Unknown(_) => Status::Unknown,
            },
        }
    }

    /// Returns the reason why the status is not [`Status::Active`], if it is known.
    pub fn reason(&self) -> Option<&str> {
        match self.status() {
            Status::Active => None,
            Status::Error | Status::Deleting => self.fault.as_ref().map(|fault| fault.message.as_str()),
            _ => self.health.problem().map(|problem| problem.message.as_str()),
        }
    }
}

/// The status of an instance: [`Active`](Self::Active) only if its server answered a query within
/// the last seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// The instance is being created.
    Build,
    /// The server answers queries.
    Active,
    /// The server answers queries, but not all of its functions work: see [`Instance::reason`].
    Impaired,
    /// The server should answer queries and does not: see [`Instance::reason`].
    Down,
    /// The health is unknown: see [`Instance::reason`].
    Unknown,
    /// The server is being restarted on request.
    Restarting,
    /// The server is being stopped on request.
    Stopping,
    /// The server was stopped on request.
    Stopped,
    /// The server is starting.
    Starting,
    /// A change of the settings is being applied.
    Configuring,
    /// The instance is being upgraded.
    Upgrading,
    /// The instance is being resized.
    Resizing,
    /// The identity of the guest is being rotated.
    Rotating,
    /// The instance is being deleted.
    Deleting,
    /// The creation failed, or an operation is stuck: see [`Instance::fault`].
    Error,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Build => "BUILD",
            Self::Active => "ACTIVE",
            Self::Impaired => "IMPAIRED",
            Self::Down => "DOWN",
            Self::Unknown => "UNKNOWN",
            Self::Restarting => "RESTARTING",
            Self::Stopping => "STOPPING",
            Self::Stopped => "STOPPED",
            Self::Starting => "STARTING",
            Self::Configuring => "CONFIGURING",
            Self::Upgrading => "UPGRADING",
            Self::Resizing => "RESIZING",
            Self::Rotating => "ROTATING",
            Self::Deleting => "DELETING",
            Self::Error => "ERROR",
        })
    }
}

/// The memory and CPUs of an instance. Settings of the engine are derived from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flavor {
    /// The name.
    pub name: String,
    /// The memory limit of the server, without swap.
    pub memory: ByteSize,
    /// The CPU limit of the server.
    pub vcpus: u32,
}

impl Flavor {
    /// Creates a flavor.
    pub fn new(name: impl Into<String>, memory: ByteSize, vcpus: u32) -> Self {
        Self { name: name.into(), memory, vcpus }
    }
}

/// The host and port at which clients reach a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// The host name or address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The failure of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The message for the owner of the instance.
    pub message: String,
    /// The time of the failure.
    pub at: Timestamp,
}
