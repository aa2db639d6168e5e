//! Images made for one test of the one that all tests have, and removed after it.

use bollard::{
    models::{ContainerConfig, ContainerCreateBody},
    query_parameters::{
        CommitContainerOptions, CreateContainerOptions, CreateImageOptions, RemoveContainerOptions, RemoveImageOptions,
    },
};
use futures_util::StreamExt;
use trove_core::id::InstanceId;

use crate::common::{POSTGRESQL_17, Subject, bollard};

/// The images of one test.
pub struct Images {
    repository: String,
    names: Vec<String>,
}

impl Images {
    pub fn new() -> Self {
        Self { repository: format!("trove-test/{}", InstanceId::new_v4()), names: Vec::new() }
    }

    /// One of the scripted engine in this version, with more environment.
    pub async fn scripted(&mut self, version: &str, more: &[&str]) -> String {
        let environment = [format!("SCRIPTED={version}")].into_iter().chain(more.iter().map(|it| (*it).to_owned()));
        self.with(environment.map(|it| format!("ENV {it}")).collect::<Vec<_>>().join("\n")).await
    }

    /// One of nothing special.
    pub async fn plain(&mut self) -> String {
        self.with("LABEL plain=yes".to_owned()).await
    }

    /// One with nothing in it.
    pub async fn empty(&mut self) -> String {
        // An archive of nothing is so many zeros.
        self.of(vec![0; 10240]).await
    }

    /// One of the files in an archive.
    pub async fn of(&mut self, archive: Vec<u8>) -> String {
        let name = self.next();
        let (repository, tag) = name.rsplit_once(':').unwrap();
        let options = CreateImageOptions {
            from_src: Some("-".to_owned()),
            repo: Some(repository.to_owned()),
            tag: Some(tag.to_owned()),
            ..Default::default()
        };
        let (docker, archive) = (bollard().await, bollard::body_full(archive.into()));
        let made: Vec<_> = docker.create_image(Some(options), Some(archive), None).collect().await;
        made.into_iter().for_each(|part| drop(part.unwrap()));
        name
    }

    /// One of an engine, which is another than that of its subject in name only.
    #[allow(dead_code, reason = "the other program uses it")]
    pub async fn of_subject(&mut self, subject: Subject) -> String {
        self.changed(subject, "LABEL patched=yes".to_owned()).await
    }

    async fn with(&mut self, changes: String) -> String {
        self.changed(POSTGRESQL_17, changes).await
    }

    async fn changed(&mut self, subject: Subject, changes: String) -> String {
        let (docker, name) = (bollard().await, self.next());
        let command = Some(vec!["sh".to_owned()]);
        let body = ContainerCreateBody { image: Some(subject.image()), cmd: command, ..Default::default() };
        let made = docker.create_container(None::<CreateContainerOptions>, body).await.unwrap().id;
        let (repository, tag) = name.rsplit_once(':').unwrap();
        let options = CommitContainerOptions {
            container: Some(made.clone()),
            repo: Some(repository.to_owned()),
            tag: Some(tag.to_owned()),
            changes: Some(changes),
            ..Default::default()
        };
        docker.commit_container(options, ContainerConfig::default()).await.unwrap();
        docker.remove_container(&made, None::<RemoveContainerOptions>).await.unwrap();
        name
    }

    fn next(&mut self) -> String {
        self.names.push(format!("{}:{}", self.repository, self.names.len()));
        self.names.last().unwrap().clone()
    }

    /// Another name, to be removed too.
    pub fn also(&mut self, name: &str) {
        self.names.push(name.to_owned());
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        let names = std::mem::take(&mut self.names);
        let removed = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                for name in names {
                    let options = RemoveImageOptions { force: true, ..Default::default() };
                    let _ = bollard().await.remove_image(&name, Some(options), None).await;
                }
            });
        });
        let _ = removed.join();
    }
}
