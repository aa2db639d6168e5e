//! One instance of any engine on a platform of its own, which is taken apart even where a test panics.

mod application;
mod client;
mod docker;
pub mod mysql;
pub mod postgresql;
mod subject;
mod tmpfs;

use std::{path::Path, sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};
use trove_core::{
    conformance::Tier,
    datastore::{Cx, Datastore, GuestHost, Prepare},
    id::{InstanceId, OperationId},
    model::{ByteSize, Condition, Flavor, Health, Instance, NewDatabase, NewUser},
    platform::{Compute, Ensured, Networks, Placement, Platform, Volumes},
    time::Timestamp,
};
use trove_drivers::LocalPlatform;

#[allow(unused_imports, reason = "no test uses all")]
pub use {
    application::text,
    client::Client,
    docker::{ScopeCleanup, bollard, containers, log, networks},
    postgresql::driver,
    subject::{MARIADB_10_11, MARIADB_11_8, MYSQL_9_7, POSTGRESQL_15, POSTGRESQL_17, POSTGRESQL_18, Subject},
    tmpfs::TmpfsMount,
};

pub const MIB: u64 = 1 << 20;

/// Bounds how long a broken test hangs. No test measures how fast the machine is.
pub const HANG_LIMIT: Duration = Duration::from_secs(180);

pub struct Fixture {
    pub subject: Subject,
    pub id: InstanceId,
    pub local: LocalPlatform,
    pub host: GuestHost,
    pub server: Arc<dyn Datastore>,
    _cleanup: ScopeCleanup,
    pub directory: TempDir,
}

impl Fixture {
    /// An instance that has its place and nothing in it.
    pub async fn new(subject: Subject) -> Self {
        Self::at(tempfile::tempdir().unwrap(), subject).await
    }

    /// One in this directory.
    pub async fn at(directory: TempDir, subject: Subject) -> Self {
        let local = LocalPlatform::connect(directory.path().join("root")).unwrap();
        let cleanup = ScopeCleanup { scope: local.scope().to_owned() };
        let id = InstanceId::new_v4();
        let host = place(&local, id, subject).await;
        let server = subject.driver().attach(host.clone()).unwrap();
        Self { subject, id, local, host, server, _cleanup: cleanup, directory }
    }

    /// An instance that serves, with database `app` and user `app`.
    pub async fn prepared(subject: Subject) -> Self {
        let fixture = Self::new(subject).await;
        fixture.server.prepare(&cx(), &app()).await.unwrap();
        fixture
    }

    pub fn container(&self) -> String {
        self.host.name.clone()
    }

    /// The same instance as another process would see it.
    pub fn reattached(&self) -> Arc<dyn Datastore> {
        self.subject.driver().attach(self.host.clone()).unwrap()
    }

    /// Waits until the health is as it should be.
    pub async fn health(&self, what: &str, wanted: impl Fn(&Health) -> bool) -> Health {
        eventually(what, async || {
            let health = timeout(HANG_LIMIT, self.server.observe(&cx())).await.expect("the observation hangs");
            let health = health.unwrap().health;
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

/// Returns true in the quick tier, where a test that is only for the full tier ends at once.
pub fn is_quick_tier() -> bool {
    Tier::from_env() == Tier::Quick
}

pub fn cx() -> Cx {
    Cx::new(OperationId::new_v4(), 1)
}

pub fn app() -> Prepare {
    Prepare::new(vec![NewDatabase::new("app")], vec![NewUser::new("app", "secret").granted("app")])
}

/// A place for an instance of this kind.
pub async fn place(local: &LocalPlatform, id: InstanceId, subject: Subject) -> GuestHost {
    let flavor = Flavor::new("small", ByteSize::bytes(subject.memory_mib * MIB), 1);
    let volume = ByteSize::bytes(subject.volume_mib * MIB);
    let mut instance = Instance::new(id, "orders", subject.datastore, flavor, volume, Timestamp::now());
    instance.project = "acme".to_owned();
    instance.version = subject.version.to_owned();
    instance.version_number = subject.version.to_owned();
    instance.image = subject.image();
    assert_eq!(local.ensure_volume(id, instance.volume).await.unwrap(), Ensured::Ready(()));
    let Ensured::Ready(endpoint) = local.ensure_endpoint(id, false).await.unwrap() else { panic!("pending") };
    let placed = local.ensure_compute(&instance, &endpoint, None).await.unwrap();
    let Ensured::Ready(Placement::InProcess(host)) = placed else { panic!("pending") };
    *host
}

/// Waits for a condition, with what it last was in the panic.
pub async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + HANG_LIMIT;
    loop {
        match check().await {
            Ok(found) => return found,
            Err(last) => assert!(Instant::now() < deadline, "not {what} in time; last: {last}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

pub fn file_names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
