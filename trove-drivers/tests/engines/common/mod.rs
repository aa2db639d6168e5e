//! An instance of any engine on a platform of its own, removed when the test ends or panics.

mod application;
mod client;
mod docker;
mod engine_version;
pub mod mysql;
pub mod postgresql;
mod tmpfs;

use std::{path::Path, sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};
use trove_core::{
    datastore::{Accounts, Cx, Datastore, GuestHost, Prepare},
    id::{InstanceId, OperationId},
    model::{ByteSize, Condition, Flavor, Health, Instance, NewDatabase, NewUser, Observed, PageRequest},
    platform::{Compute, EndpointRequest, Ensured, Networks, Placement, Platform, Volumes},
    time::Timestamp,
};
use trove_drivers::LocalPlatform;

#[allow(unused_imports, reason = "each test program uses some of them")]
pub use {
    application::query_as_app,
    client::Client,
    docker::{ScopeCleanup, container_ids, container_log, docker_client, network_ids, nft, pause},
    engine_version::{
        EngineVersion, MARIADB_10_11, MARIADB_11_8, MYSQL_9_7, POSTGRESQL_15, POSTGRESQL_17, POSTGRESQL_18,
    },
    postgresql::postgresql_driver,
    tmpfs::TmpfsMount,
};

pub const MIB: u64 = 1 << 20;

/// Bounds how long a broken test hangs. No test depends on the speed of the machine.
pub const HANG_LIMIT: Duration = Duration::from_secs(180);

pub struct Fixture {
    pub engine: EngineVersion,
    pub id: InstanceId,
    pub local: LocalPlatform,
    pub host: GuestHost,
    pub server: Arc<dyn Datastore>,
    _cleanup: ScopeCleanup,
    pub directory: TempDir,
}

impl Fixture {
    /// Allocates a host for an instance, and attaches a datastore to it.
    pub async fn new(engine: EngineVersion) -> Self {
        Self::in_directory(tempfile::tempdir().unwrap(), engine).await
    }

    pub async fn in_directory(directory: TempDir, engine: EngineVersion) -> Self {
        let local = LocalPlatform::connect(directory.path().join("root")).unwrap();
        let cleanup = ScopeCleanup { scope: local.scope().to_owned() };
        let id = InstanceId::new_v4();
        let host = allocate_host(&local, id, engine).await;
        let server = engine.driver().attach(host.clone()).unwrap();
        Self { engine, id, local, host, server, _cleanup: cleanup, directory }
    }

    /// Prepares a server with database `app` and user `app`.
    pub async fn prepared(engine: EngineVersion) -> Self {
        let fixture = Self::new(engine).await;
        fixture.server.prepare(&cx(), &app_spec()).await.unwrap();
        fixture
    }

    pub fn container(&self) -> String {
        self.host.name.clone()
    }

    pub fn accounts(&self) -> &dyn Accounts {
        self.server.abilities().accounts.unwrap()
    }

    /// Attaches another datastore to the instance, as another process would.
    pub fn reattach(&self) -> Arc<dyn Datastore> {
        self.engine.driver().attach(self.host.clone()).unwrap()
    }

    /// Drops all users and databases, and creates database `app` and user `app` again.
    pub async fn reset_accounts(&self) {
        let accounts = self.accounts();
        accounts.disable_root(&cx()).await.unwrap();
        for user in accounts.users(&cx(), &PageRequest::default()).await.unwrap().items {
            accounts.drop_user(&cx(), &user.user).await.unwrap();
        }
        for database in accounts.databases(&cx(), &PageRequest::default()).await.unwrap().items {
            accounts.drop_database(&cx(), &database.name).await.unwrap();
        }
        self.server.prepare(&cx(), &app_spec()).await.unwrap();
    }

    /// Waits until the observed health satisfies a predicate.
    pub async fn wait_for_health(&self, what: &str, wanted: impl Fn(&Health) -> bool) -> Health {
        observe_until(&*self.server, what, |observed| wanted(&observed.health)).await.health
    }

    pub async fn wait_for_condition(&self, wanted: Condition) -> Health {
        let matches = |health: &Health| health.problem().is_some_and(|problem| problem.condition == wanted);
        self.wait_for_health(&format!("{wanted:?}"), matches).await
    }

    pub async fn wait_until_healthy(&self) {
        self.wait_for_health("healthy", |health| *health == Health::Healthy).await;
    }

    /// Removes the instance twice, and asserts that nothing is left.
    pub async fn remove(self) {
        let platform = Platform::from(self.local.clone());
        for _ in 0..2 {
            self.server.remove(&cx()).await.unwrap();
            platform.compute.release_compute(self.id).await.unwrap();
            platform.networks.release_endpoint(self.id).await.unwrap();
            platform.volumes.release_volume(self.id).await.unwrap();
        }
        assert_eq!(container_ids(self.local.scope()).await, Vec::<String>::new());
        assert_eq!(network_ids(self.local.scope()).await, Vec::<String>::new());
        assert_eq!(nft(&format!("list table inet trove-{}", self.local.scope())), None);
        for part in ["volumes", "guests", "endpoints", "trash"] {
            let left: Vec<_> = std::fs::read_dir(self.directory.path().join("root").join(part)).unwrap().collect();
            assert!(left.is_empty(), "{part}: {left:?}");
        }
    }
}

pub fn cx() -> Cx {
    Cx::new(OperationId::new_v4(), 1)
}

pub fn app_spec() -> Prepare {
    Prepare::new(vec![NewDatabase::new("app")], vec![NewUser::new("app", "secret").granted("app")])
}

pub async fn allocate_host(local: &LocalPlatform, id: InstanceId, engine: EngineVersion) -> GuestHost {
    let flavor = Flavor::new("small", ByteSize::bytes(engine.memory_mib * MIB), 1);
    let volume = ByteSize::bytes(engine.volume_mib * MIB);
    let mut instance = Instance::new(id, "orders", engine.datastore, flavor, volume, Timestamp::now());
    instance.project = "acme".to_owned();
    instance.version = engine.version.to_owned();
    instance.version_number = engine.version.to_owned();
    instance.image = engine.image();
    assert_eq!(local.ensure_volume(id, instance.volume).await.unwrap(), Ensured::Ready(()));
    let request = EndpointRequest { public: false, port: engine.driver().manifest().port };
    let Ensured::Ready(endpoint) = local.ensure_endpoint(id, request).await.unwrap() else { panic!("pending") };
    let placed = local.ensure_compute(&instance, &endpoint, None).await.unwrap();
    let Ensured::Ready(Placement::InProcess(host)) = placed else { panic!("pending") };
    *host
}

/// Waits for a condition. The panic after [`HANG_LIMIT`] contains the last failure.
pub async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + HANG_LIMIT;
    loop {
        match check().await {
            Ok(found) => return found,
            Err(last) => assert!(Instant::now() < deadline, "timed out waiting for: {what}; last: {last}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until an observation is as wanted. A single one may be late on a busy machine, and says
/// then that nothing is known.
pub async fn observe_until(server: &dyn Datastore, what: &str, wanted: impl Fn(&Observed) -> bool) -> Observed {
    eventually(what, async || {
        let observed = timeout(HANG_LIMIT, server.observe(&cx())).await.expect("the observation hangs").unwrap();
        if wanted(&observed) { Ok(observed) } else { Err(format!("{observed:?}")) }
    })
    .await
}

pub async fn wait_until_healthy(server: &dyn Datastore) -> Observed {
    observe_until(server, "healthy", |observed| observed.health == Health::Healthy).await
}

pub fn file_names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
