use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ByteSize, Disk, GivenSettings, Health, SettingsState};
use crate::{
    id::{ConfigurationId, InstanceId},
    lifecycle::State,
};

/// A database instance as the service knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Instance {
    /// Its identity. Names are labels: two instances may share one.
    pub id: InstanceId,
    /// The tenant it belongs to.
    pub project: String,
    /// What its owner calls it.
    pub name: String,
    /// The datastore it runs, as its driver names it.
    pub datastore: String,
    /// The datastore's version, as the registry of versions calls it.
    pub version: String,
    /// The number of that version, which tells its driver what it is.
    pub version_number: String,
    /// The image it runs from.
    pub image: String,
    /// The memory and processors it has.
    pub flavor: Flavor,
    /// The size of its volume.
    pub volume: ByteSize,
    /// True where it may be reached from other machines.
    pub public: bool,
    /// What the control plane is doing with it.
    pub state: State,
    /// What its guest last reported. Already set to [`Health::Unknown`] where the report is too old.
    pub health: Health,
    /// When the guest last reported.
    pub reported_at: Option<Timestamp>,
    /// The server's own version, as it last said.
    pub server_version: Option<String>,
    /// How full the volume was, as last measured.
    pub disk: Option<Disk>,
    /// Where it is reached.
    pub endpoint: Option<Endpoint>,
    /// The configuration group whose settings it has, or is being given.
    pub configuration: Option<ConfigurationId>,
    /// The settings that it was last given, of which revision of which group. A revision that its server refused counts as
    /// given; the settings are then those it has, and [`fault`](Self::fault) says why.
    pub given: GivenSettings,
    /// How its settings stand with its server, as its guest last told.
    pub settings: SettingsState,
    /// The last operation that failed; cleared by the next that succeeds.
    pub fault: Option<Fault>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When the control plane last changed it.
    pub updated_at: Timestamp,
    /// The fencing epoch of the last owner of an operation on it.
    pub epoch: u64,
}

impl Instance {
    /// An instance that has just been asked for, of project `default`; the fields say the rest.
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
            given: GivenSettings::default(),
            settings: SettingsState::default(),
            fault: None,
            created_at: at,
            updated_at: at,
            epoch: 0,
        }
    }

    /// The one word that sums up state and health.
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

    /// Why the status is not [`Status::Active`], where a reason is known.
    pub fn reason(&self) -> Option<&str> {
        match self.status() {
            Status::Active => None,
            Status::Error | Status::Deleting => self.fault.as_ref().map(|fault| fault.message.as_str()),
            _ => self.health.problem().map(|problem| problem.message.as_str()),
        }
    }
}

/// The status of an instance: [`Active`](Self::Active) only if its server was seen to serve within the last seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// It is being created.
    Build,
    /// It serves.
    Active,
    /// It serves, but not as it should: see [`Instance::reason`].
    Impaired,
    /// It should serve and does not: see [`Instance::reason`].
    Down,
    /// Whether it serves is not known: see [`Instance::reason`].
    Unknown,
    /// Its server is being restarted on request.
    Restarting,
    /// Its server is being stopped on request.
    Stopping,
    /// Its server was stopped on request.
    Stopped,
    /// Its server is coming up.
    Starting,
    /// Its server is being given other settings.
    Configuring,
    /// It is being given another release.
    Upgrading,
    /// It is being given another flavor.
    Resizing,
    /// Its guest is being given another identity.
    Rotating,
    /// It is being removed.
    Deleting,
    /// It could not be created, or an operation is stuck: see [`Instance::fault`].
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

/// The memory and processors of an instance. An engine's settings are derived from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flavor {
    /// What it is called.
    pub name: String,
    /// The most memory its server may use; there is no swap beyond it.
    pub memory: ByteSize,
    /// The most processors its server may use.
    pub vcpus: u32,
}

impl Flavor {
    /// A flavor.
    pub fn new(name: impl Into<String>, memory: ByteSize, vcpus: u32) -> Self {
        Self { name: name.into(), memory, vcpus }
    }
}

/// Where a server is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// Host name or address.
    pub host: String,
    /// TCP port.
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

/// An operation that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What failed and why, for the owner.
    pub message: String,
    /// When.
    pub at: Timestamp,
}
