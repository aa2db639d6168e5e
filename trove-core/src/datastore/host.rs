use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::RegistryLogin;
use crate::{
    error::{Error, Result},
    id::InstanceId,
    model::{ByteSize, Endpoint, Flavor},
};

/// The host of one instance: the resources that its platform provides to the engine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GuestHost {
    /// The instance.
    pub instance: InstanceId,
    /// The name from which the driver derives the names of everything it creates.
    pub name: String,
    /// The tenant.
    pub project: String,
    /// The service that owns these resources, if several services share a host.
    pub scope: String,
    /// The version of the engine, of one of the [series](super::Manifest::series) of the driver.
    pub version: String,
    /// The image to run. A name with `@sha256:...` pins its content.
    pub image: String,
    /// The credentials to pull the image, if the registry requires any.
    pub login: Option<RegistryLogin>,
    /// The memory and processor limits of the server.
    pub flavor: Flavor,
    /// The root of the instance's volume, which the server owns. The data is in a directory below.
    pub volume: PathBuf,
    /// The nominal size of the volume.
    pub volume_size: ByteSize,
    /// The agent's directory for configuration and sockets, on the same host but not on the volume.
    pub directory: PathBuf,
    /// A cache directory that the instances of this host share, if there is one.
    pub shared: Option<PathBuf>,
    /// The user and group of the server process.
    pub server: ServerIdentity,
    /// The platform's name of the network to attach the server to. Empty if only the agent
    /// connects.
    pub network: String,
    /// The address and port at which clients reach the server.
    pub endpoint: Endpoint,
}

impl GuestHost {
    /// Creates a host with these paths. The other fields have defaults that suit tests.
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

/// The serialized form of a [`GuestHost`] in the configuration of a remote agent.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostConfig {
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
    /// Serializes the host without the registry credentials.
    pub(crate) fn to_json(&self) -> Result<String> {
        let host = self.clone();
        let config = HostConfig {
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
        serde_json::to_string(&config).map_err(|_| Error::invalid("a path of the host is not valid Unicode"))
    }

    /// Deserializes what [`to_json`](Self::to_json) returned.
    #[cfg(feature = "amqp")]
    pub(crate) fn from_json(value: serde_json::Value) -> serde_json::Result<Self> {
        let config: HostConfig = serde_json::from_value(value)?;
        let mut host = Self::new(config.instance, config.volume, config.directory);
        (host.project, host.scope, host.version, host.image) =
            (config.project, config.scope, config.version, config.image);
        (host.flavor, host.volume_size, host.shared) = (config.flavor, config.volume_size, config.shared);
        (host.server, host.network, host.endpoint) = (config.server, config.network, config.endpoint);
        Ok(host)
    }
}

/// Returns the name of an instance's resources on every platform: `trove-` and its id.
pub fn resource_name(instance: InstanceId) -> String {
    format!("trove-{instance}")
}

/// The numeric user and group of a server process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerIdentity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}
