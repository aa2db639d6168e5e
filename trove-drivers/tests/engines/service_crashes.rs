//! Kills the process that runs the service repeatedly at random moments. Afterwards each instance
//! serves or is deleted.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::common::{HANG_LIMIT, ScopeCleanup, postgresql_driver};
use tokio::time::{Instant, sleep, timeout};
use trove_core::{
    Trove,
    control::{InstanceHandle, NewInstance},
    error::Kind,
    id::{GenericUuid, InstanceId},
    lifecycle::State,
    model::{Flavor, Status, mib},
    secret::{ExposeSecret, SecretString},
};
use trove_drivers::LocalPlatform;

/// Makes the test run in a child process, in the directory that it names.
const CHILD_VARIABLE: &str = "TROVE_TEST_SERVICE_CRASHES";
const ROUNDS: usize = 8;
const CONCURRENT_INSTANCES: usize = 3;
const MAX_LIFETIME_MS: u128 = 2500;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full tier"]
async fn instances_serve_or_are_deleted_after_the_service_was_killed() {
    if let Some(root) = env::var_os(CHILD_VARIABLE) {
        return create_and_delete(&PathBuf::from(root)).await;
    }
    let directory = tempfile::tempdir().unwrap();
    // The platform locks its directory, which the child process needs.
    let scope = LocalPlatform::connect(platform(directory.path())).unwrap().scope().to_owned();
    let _cleanup = ScopeCleanup { scope };
    for _ in 0..ROUNDS {
        let mut child = spawn(directory.path());
        // A version 4 UUID is a source of randomness.
        let lifetime = InstanceId::new_v4().into_untyped_uuid().as_u128() % MAX_LIFETIME_MS;
        sleep(Duration::from_millis(u64::try_from(lifetime).unwrap())).await;
        child.kill().unwrap();
        child.wait().unwrap();
    }

    let (trove, local) = start(directory.path()).await;
    let deadline = Instant::now() + 2 * HANG_LIMIT;
    for mut instance in trove.instances(None, None, 1000).await.unwrap() {
        loop {
            match instance.refresh().await {
                Err(error) if error.kind() == Kind::NotFound => break,
                Err(error) => panic!("{}: {error:?}", instance.id),
                Ok(now) if now.status() == Status::Active => {
                    assert_serves(&instance).await;
                    break;
                }
                Ok(now) => assert!(Instant::now() < deadline, "{} is {}: {:?}", now.id, now.status(), now.reason()),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    for instance in trove.instances(None, None, 1000).await.unwrap() {
        instance.delete().await.unwrap().wait().await.unwrap();
    }
    assert_eq!(local.inventory().await.unwrap(), Vec::<String>::new());
    trove.shut_down().await;
}

/// Creates and deletes instances until the process is killed.
async fn create_and_delete(root: &Path) {
    let (trove, _) = start(root).await;
    loop {
        let instances = trove.instances(None, None, 1000).await.unwrap();
        if instances.len() < CONCURRENT_INSTANCES {
            let new = NewInstance::new("killed", "postgresql").database("app").user("app", "secret");
            trove.create(new).await.unwrap();
        }
        // Deletes the oldest one when it is active, or in any state if its id is odd.
        if let Some(oldest) = instances.first()
            && (oldest.status() == Status::Active || oldest.id.into_untyped_uuid().as_u128() % 2 == 1)
            && oldest.state != State::Deleting
        {
            // It may have been deleted meanwhile.
            let _ = oldest.delete().await;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

fn spawn(root: &Path) -> Child {
    let test = "service_crashes::instances_serve_or_are_deleted_after_the_service_was_killed";
    Command::new(env::current_exe().unwrap())
        .args([test, "--exact", "--ignored", "--nocapture"])
        .env(CHILD_VARIABLE, root)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

async fn start(root: &Path) -> (Trove, LocalPlatform) {
    let local = LocalPlatform::connect(platform(root)).unwrap();
    let trove = Trove::builder()
        .store(format!("sqlite:{}", root.join("trove.db").display()))
        .platform(local.clone())
        .datastore(postgresql_driver())
        .flavor(Flavor::new("tiny", mib(256), 1))
        .start()
        .await
        .unwrap();
    (trove, local)
}

fn platform(root: &Path) -> PathBuf {
    root.join("platform")
}

async fn assert_serves(instance: &InstanceHandle) {
    let uri = instance.uri("app").unwrap().user("app").with_password(&SecretString::from("secret"));
    let connecting = tokio_postgres::connect(uri.expose_secret(), tokio_postgres::NoTls);
    let (client, connection) = timeout(HANG_LIMIT, connecting).await.unwrap().unwrap();
    tokio::spawn(connection);
    client.batch_execute("CREATE TABLE IF NOT EXISTS t (a int); INSERT INTO t VALUES (1)").await.unwrap();
}
