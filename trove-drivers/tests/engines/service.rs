//! The whole service on real servers: what it shows is true, and what fails is started again.

use std::process::Command;

use crate::common::ScopeCleanup;
use tempfile::TempDir;
use tokio::time::timeout;
use trove_core::{
    Trove,
    conformance::{self, memory::World},
    control::{InstanceHandle, NewInstance},
    error::Kind,
    events::EventStream,
    model::{Condition, EventKind, Flavor, Health, mib},
    secret::{ExposeSecret, MasterKey, MasterKeys, SecretString},
    store::Store,
};
use trove_drivers::LocalPlatform;

const DOCKER_TRIES: usize = 5;

struct Service {
    trove: Trove,
    local: LocalPlatform,
    _sweeper: ScopeCleanup,
    _directory: TempDir,
}

impl Service {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let local = LocalPlatform::connect(directory.path().join("platform")).unwrap();
        let sweeper = ScopeCleanup { scope: local.scope().to_owned() };
        let trove = Trove::builder()
            .store(format!("sqlite:{}", directory.path().join("trove.db").display()))
            .platform(local.clone())
            .datastore(crate::common::driver())
            .flavor(Flavor::new("tiny", mib(256), 1))
            .start()
            .await
            .unwrap();
        Self { trove, local, _sweeper: sweeper, _directory: directory }
    }

    async fn create(&self) -> InstanceHandle {
        let new = NewInstance::new("service", "postgresql").database("app").user("app", "secret");
        self.trove.create(new).await.unwrap().active().await.unwrap()
    }

    async fn end(self, instance: InstanceHandle) {
        instance.delete().await.unwrap().wait().await.unwrap();
        assert_eq!(self.local.inventory().await.unwrap(), Vec::<String>::new());
        self.trove.shut_down().await;
    }
}

fn docker(args: &[&str]) {
    for _ in 0..DOCKER_TRIES {
        let output = Command::new("docker").args(args).output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        // The engine of a busy machine gives up on a container whose processes do not stand still in time.
        if !complaint.contains("unable to freeze") {
            assert!(output.status.success(), "docker {args:?}: {complaint}");
            return;
        }
    }
    panic!("docker {args:?} was given up {DOCKER_TRIES} times");
}

async fn rows(instance: &InstanceHandle, sql: &str) -> i64 {
    let uri = instance.uri("app").unwrap().user("app").with_password(&SecretString::from("secret"));
    let (client, connection) = tokio_postgres::connect(uri.expose_secret(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
    client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0)
}

/// Waits for a report of a problem of one of these kinds, and then for one of health.
async fn seen_and_healed(events: &mut EventStream, conditions: &[Condition]) {
    let mut problem = None;
    let watch = async {
        while let Some(event) = events.next().await {
            let EventKind::Health { health } = event.kind else { continue };
            match (health.problem(), &problem) {
                (Some(found), _) if conditions.contains(&found.condition) => problem = Some(found.clone()),
                (None, Some(_)) if health == Health::Healthy => return,
                _ => {}
            }
        }
    };
    let healed = timeout(crate::common::HANG_LIMIT, watch).await;
    assert!(healed.is_ok(), "{conditions:?} was not seen and healed; last seen: {problem:?}");
}

#[tokio::test]
async fn what_happens_behind_its_back_is_seen_and_healed() {
    let service = Service::start().await;
    let instance = service.create().await;
    let container = format!("trove-{}", instance.id);
    assert_eq!(rows(&instance, "CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 100)").await, 100);
    let mut events = service.trove.events();

    docker(&["kill", &container]);
    seen_and_healed(&mut events, &[Condition::Killed]).await;
    docker(&["pause", &container]);
    seen_and_healed(&mut events, &[Condition::Paused]).await;
    docker(&["rm", "--force", &container]);
    seen_and_healed(&mut events, &[Condition::Removed, Condition::Killed]).await;
    docker(&["stop", &container]);
    seen_and_healed(&mut events, &[Condition::Exited, Condition::Removed]).await;

    assert_eq!(rows(&instance, "INSERT INTO t VALUES (101)").await, 101, "no row was lost");
    service.end(instance).await;
}

#[tokio::test]
async fn rows_outlive_stops_and_restarts() {
    let service = Service::start().await;
    let mut instance = service.create().await;
    assert_eq!(rows(&instance, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await, 1);
    instance.stop().await.unwrap().wait().await.unwrap();
    assert_eq!(instance.refresh().await.unwrap().health, Health::Stopped);
    let instance = instance.start().await.unwrap().active().await.unwrap();
    let instance = instance.restart().await.unwrap().active().await.unwrap();
    assert_eq!(rows(&instance, "INSERT INTO t VALUES (2)").await, 2);
    service.end(instance).await;
}

#[tokio::test]
async fn the_store_keeps_its_contract_on_postgresql() {
    let service = Service::start().await;
    let instance = service.create().await;
    let uri = instance.uri("app").unwrap().user("app").with_password(&SecretString::from("secret"));
    let store = Store::connect(uri.expose_secret()).await.unwrap();
    let report = conformance::store::certify("PostgreSQL", &store).await;
    assert!(report.passed(), "{report}");
    assert_eq!(Store::connect(uri.expose_secret()).await.unwrap_err().kind(), Kind::Conflict);
    store.close().await;

    // One service follows another; what the first made the second has.
    let (world, keys) = (World::new(), MasterKeys::new(MasterKey::generate().unwrap()));
    let start = || async {
        let builder = Trove::builder().store(uri.expose_secret()).platform(world.platform());
        builder.datastore(world.driver()).keys(keys.clone()).start().await
    };
    let first = start().await.unwrap();
    let made = first.create(NewInstance::new("shared", "memory").user("app", "secret")).await.unwrap();
    made.active().await.unwrap();
    assert_eq!(start().await.err().unwrap().kind(), Kind::Conflict);
    first.shut_down().await;
    let second = start().await.unwrap();
    let seen = second.instance(made.instance_id()).await.unwrap();
    seen.delete().await.unwrap().wait().await.unwrap();
    assert!(world.leftovers().is_empty());
    second.shut_down().await;
    service.end(instance).await;
}
