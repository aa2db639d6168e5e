//! The service on real servers: failed servers are restarted, and the store works on PostgreSQL.

use std::process::Command;

use crate::common::{HANG_LIMIT, ScopeCleanup, pause, postgresql_driver};
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

struct Service {
    trove: Trove,
    local: LocalPlatform,
    _cleanup: ScopeCleanup,
    _directory: TempDir,
}

impl Service {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let local = LocalPlatform::connect(directory.path().join("platform")).unwrap();
        let cleanup = ScopeCleanup { scope: local.scope().to_owned() };
        let trove = Trove::builder()
            .store(format!("sqlite:{}", directory.path().join("trove.db").display()))
            .platform(local.clone())
            .datastore(postgresql_driver())
            .flavor(Flavor::new("tiny", mib(256), 1))
            .start()
            .await
            .unwrap();
        Self { trove, local, _cleanup: cleanup, _directory: directory }
    }

    async fn create(&self) -> InstanceHandle {
        let new = NewInstance::new("service", "postgresql").database("app").user("app", "secret");
        self.trove.create(new).await.unwrap().active().await.unwrap()
    }

    async fn delete_and_shut_down(self, instance: InstanceHandle) {
        instance.delete().await.unwrap().wait().await.unwrap();
        assert_eq!(self.local.inventory().await.unwrap(), Vec::<String>::new());
        self.trove.shut_down().await;
    }
}

fn docker(args: &[&str]) {
    let output = Command::new("docker").args(args).output().unwrap();
    assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

async fn count_rows_after(instance: &InstanceHandle, sql: &str) -> i64 {
    let uri = instance.uri("app").unwrap().user("app").with_password(&SecretString::from("secret"));
    let (client, connection) = tokio_postgres::connect(uri.expose_secret(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
    client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0)
}

/// Waits until a problem with one of these conditions is reported, and then until the server is
/// healthy.
async fn wait_until_restarted(events: &mut EventStream, conditions: &[Condition]) {
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
    let restarted = timeout(HANG_LIMIT, watch).await;
    assert!(restarted.is_ok(), "no restart after {conditions:?}; last problem: {problem:?}");
}

#[tokio::test]
async fn failed_servers_are_restarted_without_losing_rows() {
    let service = Service::start().await;
    let mut instance = service.create().await;
    let container = format!("trove-{}", instance.id);
    assert_eq!(
        count_rows_after(&instance, "CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 100)").await,
        100
    );
    let mut events = service.trove.events();

    docker(&["kill", &container]);
    wait_until_restarted(&mut events, &[Condition::Killed]).await;
    pause(&container).await;
    wait_until_restarted(&mut events, &[Condition::Paused]).await;
    docker(&["rm", "--force", &container]);
    wait_until_restarted(&mut events, &[Condition::Removed, Condition::Killed]).await;
    docker(&["stop", &container]);
    wait_until_restarted(&mut events, &[Condition::Exited, Condition::Removed]).await;

    assert_eq!(count_rows_after(&instance, "INSERT INTO t VALUES (101)").await, 101);
    instance.stop().await.unwrap().wait().await.unwrap();
    assert_eq!(instance.refresh().await.unwrap().health, Health::Stopped);
    let instance = instance.start().await.unwrap().active().await.unwrap();
    assert_eq!(count_rows_after(&instance, "INSERT INTO t VALUES (102)").await, 102);
    service.delete_and_shut_down(instance).await;
}

#[tokio::test]
async fn the_store_passes_its_suite_and_is_handed_over_on_postgresql() {
    let service = Service::start().await;
    let instance = service.create().await;
    let uri = instance.uri("app").unwrap().user("app").with_password(&SecretString::from("secret"));
    let store = Store::connect(uri.expose_secret()).await.unwrap();
    let report = conformance::store::certify("PostgreSQL", &store).await;
    assert!(report.passed(), "{report}");
    assert_eq!(Store::connect(uri.expose_secret()).await.unwrap_err().kind(), Kind::Conflict);
    store.close().await;

    // A second service takes over after the first has shut down.
    let (world, keys) = (World::new(), MasterKeys::new(MasterKey::generate().unwrap()));
    let start = || async {
        let builder = Trove::builder().store(uri.expose_secret()).platform(world.platform());
        builder.datastore(world.driver()).keys(keys.clone()).start().await
    };
    let first = start().await.unwrap();
    let created = first.create(NewInstance::new("shared", "memory").user("app", "secret")).await.unwrap();
    created.active().await.unwrap();
    assert_eq!(start().await.err().unwrap().kind(), Kind::Conflict);
    first.shut_down().await;
    let second = start().await.unwrap();
    let instance_of_first = second.instance(created.instance_id()).await.unwrap();
    instance_of_first.delete().await.unwrap().wait().await.unwrap();
    assert!(world.leftovers().is_empty());
    second.shut_down().await;
    service.delete_and_shut_down(instance).await;
}
