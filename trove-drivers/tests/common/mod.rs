//! One PostgreSQL instance on a platform of its own, which is taken apart even where a test panics.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)]

use std::{collections::HashMap, env, future::Future, path::Path, sync::Arc, time::Duration};

use bollard::query_parameters::{ListContainersOptions, ListNetworksOptions, RemoveContainerOptions};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls};
use trove_core::{
    datastore::{Cx, Datastore, Driver, GuestHost, Prepare},
    id::{InstanceId, OperationId},
    model::{ByteSize, Condition, Endpoint, Flavor, Health, Instance, NewDatabase, NewUser},
    platform::{Compute, Ensured, Networks, Placement, Platform, Volumes},
    time::Timestamp,
};
use trove_drivers::{LocalPlatform, PostgreSql};

pub const MIB: u64 = 1 << 20;

pub struct Fixture {
    pub id: InstanceId,
    pub local: LocalPlatform,
    pub host: GuestHost,
    pub server: Arc<dyn Datastore>,
    _sweeper: Sweeper,
    pub directory: TempDir,
}

impl Fixture {
    /// An instance that has its place and nothing in it.
    pub async fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap(), 256).await
    }

    pub async fn at(directory: TempDir, memory_mib: u64) -> Self {
        let local = LocalPlatform::connect(directory.path().join("root")).unwrap();
        let sweeper = Sweeper { scope: local.scope().to_owned() };
        let id = InstanceId::new_v4();
        let host = place(&local, id, memory_mib).await;
        let server = driver().attach(host.clone()).unwrap();
        Self { id, local, host, server, _sweeper: sweeper, directory }
    }

    /// An instance that serves, with database `app` and user `app`.
    pub async fn prepared() -> Self {
        let fixture = Self::new().await;
        fixture.server.prepare(&cx(), &app()).await.unwrap();
        fixture
    }

    pub fn container(&self) -> String {
        self.host.name.clone()
    }

    /// The same instance as another process would see it.
    pub fn reattached(&self) -> Arc<dyn Datastore> {
        driver().attach(self.host.clone()).unwrap()
    }

    pub async fn login(&self, user: &str, password: &str, database: &str) -> Result<Client, tokio_postgres::Error> {
        login(&self.host.endpoint, user, password, database).await
    }

    pub async fn app(&self) -> Client {
        self.login("app", "secret", "app").await.unwrap()
    }

    /// Waits until the health is as it should be.
    pub async fn health(&self, what: &str, wanted: impl Fn(&Health) -> bool) -> Health {
        eventually(what, async || {
            let before = Instant::now();
            let health = self.server.observe(&cx()).await.unwrap().health;
            assert!(before.elapsed() < Duration::from_secs(6), "an observation took {:?}", before.elapsed());
            if wanted(&health) { Ok(health) } else { Err(format!("{health:?}")) }
        })
        .await
    }

    pub async fn condition(&self, wanted: Condition) -> Health {
        let is = |health: &Health| health.problem().is_some_and(|problem| problem.condition == wanted);
        self.health(&format!("{wanted:?}"), is).await
    }

    pub async fn healthy(&self) {
        self.health("healthy", |health| *health == Health::Healthy).await;
    }

    /// Removes everything and asserts that it is gone.
    pub async fn removed(self) {
        let platform = Platform::from(self.local.clone());
        for _ in 0..2 {
            self.server.remove(&cx()).await.unwrap();
            platform.compute.release_compute(self.id).await.unwrap();
            platform.networks.release_endpoint(self.id).await.unwrap();
            platform.volumes.release_volume(self.id).await.unwrap();
        }
        assert_eq!(containers(self.local.scope()).await, Vec::<String>::new());
        assert_eq!(networks(self.local.scope()).await, Vec::<String>::new());
        for part in ["volumes", "guests", "ports", "trash"] {
            let left: Vec<_> = std::fs::read_dir(self.directory.path().join("root").join(part)).unwrap().collect();
            assert!(left.is_empty(), "{part}: {left:?}");
        }
    }
}

pub fn image() -> String {
    env::var("TROVE_IMAGE_POSTGRESQL_17").unwrap_or_else(|_| "trove-local/postgresql:17".to_owned())
}

pub fn driver() -> PostgreSql {
    PostgreSql::new().image("17", image())
}

pub fn cx() -> Cx {
    Cx::new(OperationId::new_v4(), 1)
}

pub fn app() -> Prepare {
    Prepare::new(vec![NewDatabase::new("app")], vec![NewUser::new("app", "secret").granted("app")])
}

pub async fn place(local: &LocalPlatform, id: InstanceId, memory_mib: u64) -> GuestHost {
    let flavor = Flavor::new("small", ByteSize::bytes(memory_mib * MIB), 1);
    let mut instance = Instance::new(id, "orders", "postgresql", flavor, ByteSize::bytes(128 * MIB), Timestamp::now());
    instance.project = "acme".to_owned();
    instance.version = "17".to_owned();
    instance.image = image();
    assert_eq!(local.ensure_volume(id, instance.volume).await.unwrap(), Ensured::Ready(()));
    let Ensured::Ready(endpoint) = local.ensure_endpoint(id, false).await.unwrap() else { panic!("pending") };
    let placed = local.ensure_compute(&instance, &endpoint).await.unwrap();
    let Ensured::Ready(Placement::InProcess(host)) = placed else { panic!("pending") };
    *host
}

pub async fn login(
    endpoint: &Endpoint,
    user: &str,
    password: &str,
    database: &str,
) -> Result<Client, tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config.host(&endpoint.host).port(endpoint.port).user(user).password(password).dbname(database);
    let (client, connection) = config.connect_timeout(Duration::from_secs(10)).connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Waits for a condition, with what it last was in the panic.
pub async fn eventually<T, F: Future<Output = Result<T, String>>>(what: &str, mut check: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + Duration::from_secs(45);
    loop {
        match check().await {
            Ok(found) => return found,
            Err(last) => assert!(Instant::now() < deadline, "not {what} in time; last: {last}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

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
    use futures_util::StreamExt;
    let options = bollard::query_parameters::LogsOptions { stdout: true, stderr: true, ..Default::default() };
    let parts: Vec<_> = bollard().await.logs(container, Some(options)).collect().await;
    parts.into_iter().map(|part| String::from_utf8_lossy(&part.unwrap().into_bytes()).into_owned()).collect()
}

fn labelled(scope: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("io.trove.scope={scope}")])])
}

pub fn file_names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Removes what a test left in the Docker Engine.
pub struct Sweeper {
    pub scope: String,
}

impl Drop for Sweeper {
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
