//! The process that runs the service is killed at random moments, again and again: every instance ends serving or gone.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::common::{HANG_LIMIT, ScopeCleanup, is_quick_tier};
use tokio::time::{Instant, sleep, timeout};
use trove_core::{
    Trove,
    control::{InstanceHandle, NewInstance},
    id::{GenericUuid, InstanceId},
    lifecycle::State,
    model::{Flavor, Status, mib},
    secret::{ExposeSecret, SecretString},
};
use trove_drivers::LocalPlatform;

const CHILD: &str = "TROVE_TEST_KILLED_CHILD";
const ROUNDS: usize = 8;
const AT_A_TIME: usize = 3;
const LONGEST_LIFE: u128 = 2500;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_service_leaves_every_instance_serving_or_gone() {
    if let Some(root) = env::var_os(CHILD) {
        return create_and_delete(&PathBuf::from(root)).await;
    }
    if is_quick_tier() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // Locks the directory while it looks up what the cleanup needs, so not for longer.
    let _cleanup =
        ScopeCleanup { scope: LocalPlatform::connect(platform(directory.path())).unwrap().scope().to_owned() };
    for _ in 0..ROUNDS {
        let mut child = spawn(directory.path());
        // A random version 4 id is as good a die as any.
        let life = InstanceId::new_v4().into_untyped_uuid().as_u128() % LONGEST_LIFE;
        sleep(Duration::from_millis(u64::try_from(life).unwrap())).await;
        child.kill().unwrap();
        child.wait().unwrap();
    }

    let (trove, local) = start(directory.path()).await;
    let settled = Instant::now() + 2 * HANG_LIMIT;
    for mut instance in trove.instances(None, None, 1000).await.unwrap() {
        loop {
            match instance.refresh().await {
                Err(_) => break,
                Ok(now) if now.status() == Status::Active => {
                    assert_serves(&instance).await;
                    break;
                }
                Ok(now) => assert!(Instant::now() < settled, "{} is {}: {:?}", now.id, now.status(), now.reason()),
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

/// What the process does that is killed: keeps some instances coming and going.
async fn create_and_delete(root: &Path) {
    let (trove, _) = start(root).await;
    loop {
        let instances = trove.instances(None, None, 1000).await.unwrap();
        if instances.len() < AT_A_TIME {
            let new = NewInstance::new("killed", "postgresql").database("app").user("app", "secret");
            trove.create(new).await.unwrap();
        }
        // The oldest goes when it serves, or, if its id is odd, whatever it does.
        if let Some(oldest) = instances.first()
            && (oldest.status() == Status::Active || oldest.id.into_untyped_uuid().as_u128() % 2 == 1)
            && oldest.state != State::Deleting
        {
            // It may be gone by now.
            let _ = oldest.delete().await;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

fn spawn(root: &Path) -> Child {
    let this = "killed::a_killed_service_leaves_every_instance_serving_or_gone";
    Command::new(env::current_exe().unwrap())
        .args([this, "--exact", "--nocapture"])
        .env(CHILD, root)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

async fn start(root: &Path) -> (Trove, LocalPlatform) {
    let local = LocalPlatform::connect(platform(root)).unwrap();
    let trove = Trove::builder()
        .store(format!("sqlite:{}", root.join("trove.db").display()))
        .platform(local.clone())
        .datastore(crate::common::driver())
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
