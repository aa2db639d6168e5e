use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::RegistryLogin;
use crate::{
    error::{Error, Result},
    id::InstanceId,
    model::{ByteSize, Endpoint, Flavor},
};

/// The place of one instance: what its platform gives the engine to live in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GuestHost {
    /// The instance.
    pub instance: InstanceId,
    /// The name from which the names of all that the driver makes are derived.
    pub name: String,
    /// The tenant.
    pub project: String,
    /// Whose resources these are, where several services share a host.
    pub scope: String,
    /// The version of the engine, of one of the [series](super::Manifest::series) of the driver's manifest.
    pub version: String,
    /// The image to run; with `@sha256:...` exactly this one.
    pub image: String,
    /// Who may pull the image, where not everybody may.
    pub login: Option<RegistryLogin>,
    /// The limits to keep.
    pub flavor: Flavor,
    /// The root of the instance's volume. The server owns it; its data lives in a directory below.
    pub volume: PathBuf,
    /// How large the volume is meant to be.
    pub volume_size: ByteSize,
    /// A directory of the agent's own, on the same host: configuration, sockets. Not part of the volume.
    pub directory: PathBuf,
    /// A directory that the instances of this host share, for what any of them can make again. `None` where they do not.
    pub shared: Option<PathBuf>,
    /// Whom the server runs as.
    pub server: ServerIdentity,
    /// The network to attach the server to, as the platform names it; empty where it is to be reached by its agent only.
    pub network: String,
    /// The host address and port at which the server is to be reached.
    pub endpoint: Endpoint,
}

impl GuestHost {
    /// A place with the parts that every platform has; the rest is public fields with defaults for a test.
    pub fn new(instance: InstanceId, volume: impl Into<PathBuf>, directory: impl Into<PathBuf>) -> Self {
        Self {
            instance,
            name: resource_name(instance),
            project: String::new(),
            scope: String::new(),
            version: String::new(),
            image: String::new(),
            login: None,
            flavor: Flavor::new("", ByteSize::default(), 1),
            volume: volume.into(),
            volume_size: ByteSize::default(),
            directory: directory.into(),
            shared: None,
            server: ServerIdentity { uid: 0, gid: 0 },
            network: String::new(),
            endpoint: Endpoint { host: String::new(), port: 0 },
        }
    }
}

/// A host as an agent elsewhere is told of it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    instance: InstanceId,
    project: String,
    scope: String,
    version: String,
    image: String,
    flavor: Flavor,
    volume: PathBuf,
    volume_size: ByteSize,
    directory: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shared: Option<PathBuf>,
    server: ServerIdentity,
    network: String,
    endpoint: Endpoint,
}

impl GuestHost {
    /// All of it but the login in JSON.
    pub(crate) fn to_json(&self) -> Result<String> {
        let host = self.clone();
        let told = Told {
            instance: host.instance,
            project: host.project,
            scope: host.scope,
            version: host.version,
            image: host.image,
            flavor: host.flavor,
            volume: host.volume,
            volume_size: host.volume_size,
            directory: host.directory,
            shared: host.shared,
            server: host.server,
            network: host.network,
            endpoint: host.endpoint,
        };
        serde_json::to_string(&told).map_err(|_| Error::invalid("a path of the host is no text in Unicode"))
    }

    /// What [`to_json`](Self::to_json) made.
    #[cfg(feature = "amqp")]
    pub(crate) fn from_json(value: serde_json::Value) -> serde_json::Result<Self> {
        let told: Told = serde_json::from_value(value)?;
        let mut host = Self::new(told.instance, told.volume, told.directory);
        (host.project, host.scope, host.version, host.image) = (told.project, told.scope, told.version, told.image);
        (host.flavor, host.volume_size, host.shared) = (told.flavor, told.volume_size, told.shared);
        (host.server, host.network, host.endpoint) = (told.server, told.network, told.endpoint);
        Ok(host)
    }
}

/// The name of an instance's resources, whichever platform they are on: `trove-` and its id.
pub fn resource_name(instance: InstanceId) -> String {
    format!("trove-{instance}")
}

/// The numeric user and group that a server runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerIdentity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}
