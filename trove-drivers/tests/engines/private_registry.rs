//! Images of a registry that wants to know who pulls them. The registry is the program that `TROVE_TEST_REGISTRY` names,
//! or Debian's `docker-registry`.

use std::{
    env,
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use crate::common::{Fixture, POSTGRESQL_17, bollard, cx, eventually};
use crate::scripted::{Images, host, server_at};
use ::bollard::{
    auth::DockerCredentials,
    query_parameters::{PushImageOptions, RemoveImageOptions, TagImageOptions},
};
use futures_util::StreamExt;
use trove_core::{
    datastore::{Cx, RegistryLogin},
    error::{Error, Kind},
    model::Progress,
    secret::SecretString,
};

const USER: &str = "robot";
const PASSWORD: &str = "pw";
const HTPASSWD: &str = "robot:$2b$05$abcdefghijklmnopqrstuuHIrMEWpUCQe2YqFR3sXwQ75u4od..9q\n";

/// A registry of this machine, for as long as it is kept.
struct Registry {
    child: Child,
    address: String,
    _directory: Option<tempfile::TempDir>,
}

impl Registry {
    async fn run() -> Self {
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
            let child = command.spawn().unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
            let mut registry = Self { child, address, _directory: None };
            let listens = eventually("the registry listens", async || {
                if registry.child.try_wait().unwrap().is_some() {
                    return Ok(false);
                }
                let connected = tokio::net::TcpStream::connect(&registry.address).await;
                connected.map(|_| true).map_err(|error| error.to_string())
            });
            if listens.await {
                registry._directory = Some(directory);
                return registry;
            }
        }
    }

    /// Puts an image into it and returns its digest there.
    async fn put(&self, image: &str, name: &str) -> String {
        let docker = bollard().await;
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

async fn forget(images: &[&str]) {
    for image in images {
        let options = RemoveImageOptions { force: true, ..Default::default() };
        bollard().await.remove_image(image, Some(options), None).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_image_is_pulled_by_who_may_and_refusals_are_told_apart() {
    let (mut images, fixture, registry) = (Images::new(), Fixture::new(POSTGRESQL_17).await, Registry::run().await);
    let archive = Command::new("tar").args(["-c", "-C", "/usr/bin", "tar", "bash"]).output().unwrap().stdout;
    let local = images.of(archive).await;
    let name = format!("{}/scripted:1", registry.address);
    images.also(&name);
    let digest = registry.put(&local, &name).await;
    forget(&[&name, &local]).await;

    let pull = async |image: &str, login: Option<(&str, &str)>, cx: &Cx| {
        let mut host = host(&fixture, image);
        host.login = login.map(|(username, password)| RegistryLogin {
            username: username.to_owned(),
            password: SecretString::from(password),
        });
        server_at(&host).abilities().configuration.unwrap().digest(cx).await
    };
    let refused = |error: Error, kind: Kind, words: &str| {
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, words), "{error:?}");
        assert!(!format!("{error:?}").contains("hunter2"));
    };
    let login = Some((USER, PASSWORD));
    let error = pull(&name, None, &cx()).await.unwrap_err();
    refused(error, Kind::Invalid, &format!("image {name} may not be pulled without signing in to its registry"));
    let error = pull(&name, Some((USER, "hunter2")), &cx()).await.unwrap_err();
    refused(error, Kind::Invalid, &format!("the registry of image {name} refuses the login"));
    let absent = format!("{}/scripted:2", registry.address);
    let error = pull(&absent, login, &cx()).await.unwrap_err();
    refused(error, Kind::NotFound, &format!("image {absent} does not exist"));
    let repository = format!("{}/scripted", registry.address);
    let wrong = format!("sha256:{}", "a".repeat(64));
    let error = pull(&format!("{repository}@{wrong}"), login, &cx()).await.unwrap_err();
    refused(error, Kind::NotFound, &format!("there is no image {repository} with digest {wrong}"));

    let told = Arc::new(Mutex::new(0));
    let most = Arc::clone(&told);
    let sink = Arc::new(move |progress: Progress| {
        let mut most = most.lock().unwrap();
        *most = progress.total.unwrap_or(0).max(*most);
    });
    let id = pull(&name, login, &cx().with_progress(sink)).await.unwrap();
    assert!(*told.lock().unwrap() > 100_000, "it tells how much there is to pull");
    forget(&[&name]).await;
    let pinned = format!("{repository}:ignored@{digest}");
    images.also(&format!("{repository}@{digest}"));
    assert_eq!(pull(&pinned, login, &cx()).await.unwrap(), id);

    forget(&[&format!("{repository}@{digest}")]).await;
    drop(registry);
    let error = pull(&name, login, &cx()).await.unwrap_err();
    refused(
        error,
        Kind::Unavailable,
        &format!("image {name} is not on this machine and its registry cannot be reached"),
    );
    fixture.removed().await;
}
