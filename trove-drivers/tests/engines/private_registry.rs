//! Images of a registry with authentication: the program that `TROVE_TEST_REGISTRY` names, or
//! Debian's
//! `docker-registry`.

use std::{
    env,
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use crate::common::{Fixture, POSTGRESQL_17, cx, docker_client, eventually};
use crate::scripted::{Images, attach_at, host};
use ::bollard::{
    auth::DockerCredentials,
    query_parameters::{PushImageOptions, RemoveImageOptions, TagImageOptions},
};
use futures_util::StreamExt;
use tempfile::TempDir;
use trove_core::{
    datastore::{Cx, RegistryLogin},
    error::{Error, Kind},
    model::Progress,
    secret::SecretString,
};

const USER: &str = "robot";
const PASSWORD: &str = "pw";
const HTPASSWD: &str = "robot:$2b$05$abcdefghijklmnopqrstuuHIrMEWpUCQe2YqFR3sXwQ75u4od..9q\n";

/// A running registry, stopped when dropped.
struct Registry {
    child: Child,
    address: String,
    _directory: Option<TempDir>,
}

impl Registry {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let program = env::var("TROVE_TEST_REGISTRY").unwrap_or_else(|_| "docker-registry".to_owned());
        loop {
            // Another process may take the port before the registry does.
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let address = format!("127.0.0.1:{port}");
            std::fs::write(root.join("htpasswd"), HTPASSWD).unwrap();
            let (data, users) = (root.join("data"), root.join("htpasswd"));
            let config = format!(
                "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n\
                 auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
                data.display(),
                users.display()
            );
            std::fs::write(root.join("config.yml"), config).unwrap();
            let mut command = Command::new(&program);
            command.arg("serve").arg(root.join("config.yml")).stdout(Stdio::null()).stderr(Stdio::null());
            let child = command.spawn().unwrap_or_else(|error| panic!("could not run {program}: {error}"));
            let mut registry = Self { child, address, _directory: None };
            let listening = eventually("the registry listens", async || {
                if registry.child.try_wait().unwrap().is_some() {
                    return Ok(false);
                }
                let connected = tokio::net::TcpStream::connect(&registry.address).await;
                connected.map(|_| true).map_err(|error| error.to_string())
            });
            if listening.await {
                registry._directory = Some(directory);
                return registry;
            }
        }
    }

    /// Pushes an image under a name in this registry and returns its digest.
    async fn push(&self, image: &str, name: &str) -> String {
        let docker = docker_client().await;
        let (repository, tag) = name.rsplit_once(':').unwrap();
        let (repo, tag) = (Some(repository.to_owned()), Some(tag.to_owned()));
        docker.tag_image(image, Some(TagImageOptions { repo, tag: tag.clone() })).await.unwrap();
        let credentials = DockerCredentials {
            username: Some(USER.to_owned()),
            password: Some(PASSWORD.to_owned()),
            ..Default::default()
        };
        let options = PushImageOptions { tag, ..Default::default() };
        let pushed: Vec<_> = docker.push_image(repository, Some(options), Some(credentials)).collect().await;
        pushed.into_iter().for_each(|part| drop(part.unwrap()));
        let found = docker.inspect_image(name).await.unwrap().repo_digests.unwrap();
        let found = found.iter().find(|digest| digest.starts_with(repository)).unwrap();
        found.split_once('@').unwrap().1.to_owned()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn remove_images(images: &[&str]) {
    for image in images {
        let options = RemoveImageOptions { force: true, ..Default::default() };
        docker_client().await.remove_image(image, Some(options), None).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn private_images_are_pulled_with_a_login_and_failures_are_distinguished() {
    let (mut images, fixture, registry) = (Images::new(), Fixture::new(POSTGRESQL_17).await, Registry::start().await);
    let archive = Command::new("tar").args(["-c", "-C", "/usr/bin", "tar", "bash"]).output().unwrap().stdout;
    let local = images.import(archive).await;
    let name = format!("{}/scripted:1", registry.address);
    images.remove_later(&name);
    let digest = registry.push(&local, &name).await;
    remove_images(&[&name, &local]).await;

    let pull = async |image: &str, login: Option<(&str, &str)>, cx: &Cx| {
        let mut host = host(&fixture, image);
        host.login = login.map(|(username, password)| RegistryLogin {
            username: username.to_owned(),
            password: SecretString::from(password),
        });
        attach_at(&host).abilities().configuration.unwrap().digest(cx).await
    };
    let assert_error = |error: Error, kind: Kind, message: &str| {
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, message), "{error:?}");
        assert!(!format!("{error:?}").contains("hunter2"));
    };
    let login = Some((USER, PASSWORD));
    let error = pull(&name, None, &cx()).await.unwrap_err();
    assert_error(error, Kind::Invalid, &format!("image {name} may not be pulled without signing in to its registry"));
    let error = pull(&name, Some((USER, "hunter2")), &cx()).await.unwrap_err();
    assert_error(error, Kind::Invalid, &format!("the registry of image {name} refuses the login"));
    let absent = format!("{}/scripted:2", registry.address);
    let error = pull(&absent, login, &cx()).await.unwrap_err();
    assert_error(error, Kind::NotFound, &format!("image {absent} does not exist"));
    let repository = format!("{}/scripted", registry.address);
    let wrong = format!("sha256:{}", "a".repeat(64));
    let error = pull(&format!("{repository}@{wrong}"), login, &cx()).await.unwrap_err();
    assert_error(error, Kind::NotFound, &format!("there is no image {repository} with digest {wrong}"));

    let largest = Arc::new(Mutex::new(0));
    let reported = Arc::clone(&largest);
    let sink = Arc::new(move |progress: Progress| {
        let mut largest = reported.lock().unwrap();
        *largest = progress.total.unwrap_or(0).max(*largest);
    });
    let id = pull(&name, login, &cx().with_progress(sink)).await.unwrap();
    assert!(*largest.lock().unwrap() > 100_000, "the progress lacks the total size");
    remove_images(&[&name]).await;
    let pinned = format!("{repository}:ignored@{digest}");
    images.remove_later(&format!("{repository}@{digest}"));
    assert_eq!(pull(&pinned, login, &cx()).await.unwrap(), id);

    remove_images(&[&format!("{repository}@{digest}")]).await;
    drop(registry);
    let error = pull(&name, login, &cx()).await.unwrap_err();
    assert_error(
        error,
        Kind::Unavailable,
        &format!("image {name} is not on this machine and its registry cannot be reached"),
    );
    fixture.remove().await;
}
