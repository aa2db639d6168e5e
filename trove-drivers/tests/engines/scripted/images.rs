//! Images built for one test, and removed when it ends.

use bollard::{
    models::{ContainerConfig, ContainerCreateBody},
    query_parameters::{
        CommitContainerOptions, CreateContainerOptions, CreateImageOptions, RemoveContainerOptions, RemoveImageOptions,
    },
};
use futures_util::StreamExt;
use tempfile::TempDir;
use trove_core::id::InstanceId;

use crate::common::{EngineVersion, POSTGRESQL_17, docker_client};

/// A test run recognizes its containers and images by this label.
const LABEL: &str = "io.trove.directory";

/// The images of one test.
pub struct Images {
    /// Identifies containers and images of this test.
    directory: TempDir,
    repository: String,
    names: Vec<String>,
}

impl Images {
    pub fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            repository: format!("trove-test/{}", InstanceId::new_v4()),
            names: Vec::new(),
        }
    }

    /// Builds an image of the scripted engine in this version, with additional environment
    /// variables.
    pub async fn scripted(&mut self, version: &str, environment: &[&str]) -> String {
        let lines = [format!("ENV SCRIPTED={version}")].into_iter();
        let lines = lines.chain(environment.iter().map(|variable| format!("ENV {variable}")));
        self.commit(POSTGRESQL_17, lines.collect::<Vec<_>>().join("\n")).await
    }

    /// Builds an image that is not of the scripted engine.
    pub async fn other(&mut self) -> String {
        self.commit(POSTGRESQL_17, "LABEL other=yes".to_owned()).await
    }

    /// Builds an image without files.
    pub async fn empty(&mut self) -> String {
        // An empty tar archive.
        self.import(vec![0; 10240]).await
    }

    /// Builds an image with the files of a tar archive.
    pub async fn import(&mut self, archive: Vec<u8>) -> String {
        let name = self.next_name();
        let (repository, tag) = name.rsplit_once(':').unwrap();
        let options = CreateImageOptions {
            from_src: Some("-".to_owned()),
            repo: Some(repository.to_owned()),
            tag: Some(tag.to_owned()),
            changes: vec![format!("LABEL {}={}", LABEL, self.directory.path().display())],
            ..Default::default()
        };
        let (docker, archive) = (docker_client().await, bollard::body_full(archive.into()));
        let parts: Vec<_> = docker.create_image(Some(options), Some(archive), None).collect().await;
        parts.into_iter().for_each(|part| drop(part.unwrap()));
        name
    }

    /// Builds another image with the same engine version.
    #[allow(dead_code, reason = "used by the conformance tests")]
    pub async fn patched(&mut self, engine: EngineVersion) -> String {
        self.commit(engine, "LABEL patched=yes".to_owned()).await
    }

    /// Builds an image from that of an engine version by changes in Dockerfile syntax.
    async fn commit(&mut self, engine: EngineVersion, changes: String) -> String {
        let (docker, name) = (docker_client().await, self.next_name());
        let command = Some(vec!["sh".to_owned()]);
        let label = (LABEL.to_owned(), self.directory.path().display().to_string());
        let labels = Some([label].into());
        let body = ContainerCreateBody { image: Some(engine.image()), cmd: command, labels, ..Default::default() };
        let container = docker.create_container(None::<CreateContainerOptions>, body).await.unwrap().id;
        let (repository, tag) = name.rsplit_once(':').unwrap();
        let options = CommitContainerOptions {
            container: Some(container.clone()),
            repo: Some(repository.to_owned()),
            tag: Some(tag.to_owned()),
            changes: Some(changes),
            ..Default::default()
        };
        docker.commit_container(options, ContainerConfig::default()).await.unwrap();
        docker.remove_container(&container, None::<RemoveContainerOptions>).await.unwrap();
        name
    }

    fn next_name(&mut self) -> String {
        self.names.push(format!("{}:{}", self.repository, self.names.len()));
        self.names.last().unwrap().clone()
    }

    /// Adds an image to remove.
    pub fn remove_later(&mut self, name: &str) {
        self.names.push(name.to_owned());
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        let names = std::mem::take(&mut self.names);
        let cleanup = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                for name in names {
                    let options = RemoveImageOptions { force: true, ..Default::default() };
                    let _ = docker_client().await.remove_image(&name, Some(options), None).await;
                }
            });
        });
        let _ = cleanup.join();
    }
}
