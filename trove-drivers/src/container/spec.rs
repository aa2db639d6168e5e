//! The containers of an instance, as pure functions of its properties and its engine.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::Arc,
};

use trove_core::datastore::{GuestHost, Manifest};

use super::{CONFIGURATION, Engine, SOCKETS, host_paths::HostPaths};
use crate::docker::{ContainerSpec, Mount, Network, PublishedPort};

pub(crate) const INSTANCE_LABEL: &str = "io.trove.instance";
pub(crate) const SCOPE_LABEL: &str = "io.trove.scope";
/// The agent's directory of the instance for which a container or network was created.
pub(crate) const DIRECTORY_LABEL: &str = "io.trove.directory";

const MIB: u64 = 1 << 20;

/// Returns the name of the server's container.
pub(crate) fn server_name(host: &GuestHost) -> String {
    host.name.clone()
}

/// Returns the name of the container that initializes the data directory.
pub(crate) fn init_name(host: &GuestHost) -> String {
    format!("{}-init", host.name)
}

/// Returns the name of the helper container.
pub(crate) fn helper_name(host: &GuestHost) -> String {
    format!("{}-helper", host.name)
}

/// Returns the name of the container that prints the version of an image.
pub(crate) fn version_name(host: &GuestHost) -> String {
    format!("{}-version", host.name)
}

/// Returns the name of the scratch server.
pub(crate) fn scratch_name(host: &GuestHost) -> String {
    format!("{}-probe", host.name)
}

/// The containers of one instance of an engine.
#[derive(Debug)]
pub(crate) struct ContainerSpecs<E> {
    datastore: String,
    port: u16,
    engine: Arc<E>,
    paths: HostPaths,
}

impl<E: Engine> ContainerSpecs<E> {
    pub(crate) fn new(engine: Arc<E>, paths: HostPaths) -> Self {
        let Manifest { name, port, .. } = E::manifest();
        Self { datastore: name, port, engine, paths }
    }

    /// Returns the name of the datastore.
    pub(crate) fn datastore(&self) -> &str {
        &self.datastore
    }

    /// Returns the path at which a container sees this directory of the volume.
    pub(crate) fn inside(&self, name: &str) -> String {
        format!("{}/{name}", self.engine.volume_target())
    }

    /// Returns the server's container.
    pub(crate) fn server(&self, host: &GuestHost, cpus: u32) -> ContainerSpec {
        let data = self.inside(self.engine.data_directory());
        let port = PublishedPort {
            container: self.port,
            address: bind_address(&host.endpoint.host),
            host: host.endpoint.port,
        };
        let network = match host.network.as_str() {
            "" => Network::None,
            network => Network::Published { network: network.to_owned(), port },
        };
        ContainerSpec {
            name: server_name(host),
            command: self.engine.server_command(host, &data),
            network,
            ..self.base(host, cpus, "server")
        }
    }

    /// Returns the container that runs `command` to initialize the data directory.
    pub(crate) fn init(&self, host: &GuestHost, cpus: u32, command: Vec<String>) -> ContainerSpec {
        ContainerSpec { name: init_name(host), command, ..self.base(host, cpus, "init") }
    }

    /// Returns the container that runs `command` beside the server.
    pub(crate) fn helper(&self, host: &GuestHost, cpus: u32, command: Vec<String>) -> ContainerSpec {
        ContainerSpec { name: helper_name(host), command, ..self.base(host, cpus, "helper") }
    }

    /// Returns the container that runs `command` of an untrusted image. It sees nothing of the
    /// instance.
    pub(crate) fn version(&self, host: &GuestHost, cpus: u32, command: Vec<String>) -> ContainerSpec {
        let base = self.base(host, cpus, "version");
        ContainerSpec { name: version_name(host), command, mounts: Vec::new(), ..base }
    }

    fn base(&self, host: &GuestHost, cpus: u32, role: &str) -> ContainerSpec {
        let memory = host.flavor.memory.as_bytes();
        let labels = [
            (INSTANCE_LABEL, host.instance.to_string()),
            (SCOPE_LABEL, host.scope.clone()),
            (DIRECTORY_LABEL, host.directory.display().to_string()),
            ("io.trove.project", host.project.clone()),
            ("io.trove.datastore", self.datastore.clone()),
            ("io.trove.version", host.version.clone()),
            ("io.trove.role", role.to_owned()),
        ];
        ContainerSpec {
            name: String::new(),
            image: host.image.clone(),
            command: Vec::new(),
            environment: self.engine.environment(host),
            user: format!("{}:{}", host.server.uid, host.server.gid),
            memory,
            shared_memory: (memory / 4).max(64 * MIB),
            cpus: host.flavor.vcpus.clamp(1, cpus),
            processes: self.engine.max_processes(host),
            mounts: self.mounts(&host.volume),
            network: Network::None,
            stop_signal: self.engine.stop_signal().to_owned(),
            labels: labels.map(|(key, value)| (key.to_owned(), value)).into(),
        }
    }

    fn mounts(&self, volume: &Path) -> Vec<Mount> {
        vec![
            Mount::new(volume, self.engine.volume_target()),
            Mount::new(&self.paths.conf(), CONFIGURATION).read_only(),
            Mount::new(&self.paths.run(), SOCKETS),
            Mount::new(&self.paths.passwd(), "/etc/passwd").read_only(),
        ]
    }
}

/// Returns the address to publish on: loopback if the endpoint is loopback, otherwise all addresses
/// of this machine.
fn bind_address(endpoint: &str) -> IpAddr {
    match endpoint.parse::<IpAddr>() {
        Ok(address) if address.is_loopback() => address,
        _ if endpoint == "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    }
}

/// Returns the labels that identify the containers of an instance.
pub(crate) fn owner_labels(host: &GuestHost) -> [(&'static str, String); 2] {
    [(INSTANCE_LABEL, host.instance.to_string()), (SCOPE_LABEL, host.scope.clone())]
}

/// Returns true if a container with these labels belongs to the instance.
pub(crate) fn is_ours(host: &GuestHost, labels: &HashMap<String, String>) -> bool {
    owner_labels(host).iter().all(|(key, value)| labels.get(*key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_endpoints_are_published_on_loopback() {
        for (endpoint, address) in
            [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"), ("192.0.2.7", "0.0.0.0"), ("db.test", "0.0.0.0")]
        {
            assert_eq!(bind_address(endpoint), address.parse::<IpAddr>().unwrap());
        }
    }
}
