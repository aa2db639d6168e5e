//! Containers and networks in the Docker Engine, found by the scope of a platform.

use std::{collections::HashMap, process::Command};

use bollard::query_parameters::{ListContainersOptions, ListNetworksOptions, LogsOptions, RemoveContainerOptions};
use futures_util::StreamExt;

const PAUSE_ATTEMPTS: usize = 5;

pub async fn docker_client() -> bollard::Docker {
    bollard::Docker::connect_with_defaults().unwrap().negotiate_version().await.unwrap()
}

pub async fn container_ids(scope: &str) -> Vec<String> {
    let options = ListContainersOptions { all: true, filters: Some(label_filter(scope)), ..Default::default() };
    let found = docker_client().await.list_containers(Some(options)).await.unwrap();
    found.into_iter().filter_map(|container| container.id).collect()
}

pub async fn network_ids(scope: &str) -> Vec<String> {
    let options = ListNetworksOptions { filters: Some(label_filter(scope)) };
    let found = docker_client().await.list_networks(Some(options)).await.unwrap();
    found.into_iter().filter_map(|network| network.id).collect()
}

/// Returns the output of a container so far.
pub async fn container_log(container: &str) -> String {
    let options = LogsOptions { stdout: true, stderr: true, ..Default::default() };
    let parts: Vec<_> = docker_client().await.logs(container, Some(options)).collect().await;
    parts.into_iter().map(|part| String::from_utf8_lossy(&part.unwrap().into_bytes()).into_owned()).collect()
}

fn label_filter(scope: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("io.trove.scope={scope}")])])
}

/// Pauses a container. Retries, because the processes may not freeze before the engine's deadline on
/// a busy machine.
pub async fn pause(container: &str) {
    let docker = docker_client().await;
    for _ in 1..PAUSE_ATTEMPTS {
        match docker.pause_container(container).await {
            Err(error) if error.to_string().contains("unable to freeze") => {}
            paused => return paused.unwrap(),
        }
    }
    docker.pause_container(container).await.unwrap();
}

/// Runs `nft` and returns what it printed; `None` if it failed or is absent.
pub fn nft(words: &str) -> Option<String> {
    let output = Command::new("nft").args(words.split(' ')).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// Removes the containers, networks and packet filter of a scope when dropped, even if the test panics.
pub struct ScopeCleanup {
    pub scope: String,
}

impl Drop for ScopeCleanup {
    fn drop(&mut self) {
        let scope = self.scope.clone();
        // `block_on` panics within another runtime.
        let cleanup = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let docker = docker_client().await;
                for id in container_ids(&scope).await {
                    let options = RemoveContainerOptions { force: true, v: true, ..Default::default() };
                    let _ = docker.remove_container(&id, Some(options)).await;
                }
                for id in network_ids(&scope).await {
                    let _ = docker.remove_network(&id).await;
                }
            });
        });
        let _ = cleanup.join();
        nft(&format!("delete table inet trove-{}", self.scope));
    }
}
