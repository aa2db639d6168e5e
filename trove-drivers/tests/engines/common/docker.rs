//! What tests see of the Docker Engine, and how they leave nothing in it.

use std::collections::HashMap;

use bollard::query_parameters::{ListContainersOptions, ListNetworksOptions, LogsOptions, RemoveContainerOptions};
use futures_util::StreamExt;

pub async fn bollard() -> bollard::Docker {
    bollard::Docker::connect_with_defaults().unwrap().negotiate_version().await.unwrap()
}

pub async fn containers(scope: &str) -> Vec<String> {
    let options = ListContainersOptions { all: true, filters: Some(labelled(scope)), ..Default::default() };
    let found = bollard().await.list_containers(Some(options)).await.unwrap();
    found.into_iter().filter_map(|container| container.id).collect()
}

pub async fn networks(scope: &str) -> Vec<String> {
    let options = ListNetworksOptions { filters: Some(labelled(scope)) };
    bollard().await.list_networks(Some(options)).await.unwrap().into_iter().filter_map(|network| network.id).collect()
}

/// All that a container has written.
pub async fn log(container: &str) -> String {
    let options = LogsOptions { stdout: true, stderr: true, ..Default::default() };
    let parts: Vec<_> = bollard().await.logs(container, Some(options)).collect().await;
    parts.into_iter().map(|part| String::from_utf8_lossy(&part.unwrap().into_bytes()).into_owned()).collect()
}

fn labelled(scope: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("io.trove.scope={scope}")])])
}

/// Removes the containers and networks of a scope when dropped, also when the test panics.
pub struct ScopeCleanup {
    pub scope: String,
}

impl Drop for ScopeCleanup {
    fn drop(&mut self) {
        let scope = self.scope.clone();
        let swept = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let docker = bollard().await;
                for id in containers(&scope).await {
                    let options = RemoveContainerOptions { force: true, v: true, ..Default::default() };
                    let _ = docker.remove_container(&id, Some(options)).await;
                }
                for id in networks(&scope).await {
                    let _ = docker.remove_network(&id).await;
                }
            });
        });
        let _ = swept.join();
    }
}
