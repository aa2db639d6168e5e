use std::collections::HashMap;

use bollard::models::NetworkCreateRequest;
use trove_core::error::{Kind, Result};

use super::{DEADLINE, Docker, DockerRequest};
use crate::hash::short_hash;

impl Docker {
    /// Ensures that there is a bridge network of this name, in which containers cannot reach each
    /// other.
    ///
    /// The daemon does not keep network names unique under concurrent requests, but it does so for
    /// names of bridge interfaces. So the interface's name is derived from the network's name.
    pub(crate) async fn ensure_network(&self, name: &str, labels: &[(&str, &str)]) -> Result<()> {
        if self.has_network(name).await? {
            return Ok(());
        }
        let interface = interface_name(name);
        let options =
            [("com.docker.network.bridge.enable_icc", "false"), ("com.docker.network.bridge.name", interface.as_str())];
        let owned = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            options: Some(owned(&options)),
            labels: Some(owned(labels)),
            ..Default::default()
        };
        let create = |client: bollard::Docker| async move { client.create_network(request).await.map(drop) };
        match self.write(DockerRequest::Network(name.to_owned()), DEADLINE, (), create).await {
            // Another request created it in the meantime.
            Err(error) if error.kind() == Kind::Conflict => Ok(()),
            created => created,
        }
    }

    /// Returns true if there is a network of this name.
    pub(crate) async fn has_network(&self, name: &str) -> Result<bool> {
        let look = |client: bollard::Docker| async move { client.inspect_network(name, None).await.map(drop) };
        match self.read(DockerRequest::Network(name.to_owned()), DEADLINE, look).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == Kind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes the network unless something is attached to it. An absent one is `Ok`.
    pub(crate) async fn remove_network(&self, name: &str) -> Result<()> {
        let network = name.to_owned();
        let remove = |client: bollard::Docker| async move { client.remove_network(&network).await };
        match self.write(DockerRequest::Network(name.to_owned()), DEADLINE, (), remove).await {
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Conflict) => Ok(()),
            removed => removed,
        }
    }
}

/// Returns the name of the interface of a network, which has at most 15 characters.
pub(crate) fn interface_name(network: &str) -> String {
    format!("trv{}", short_hash(network.as_bytes()))
}
