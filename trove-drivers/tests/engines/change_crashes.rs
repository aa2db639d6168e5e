//! Kills the process that upgrades, resizes and configures a server repeatedly at random moments.
//! Each change can be reverted or repeated, and the data is unchanged.

use std::{
    env, fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::common::{Fixture, MIB, POSTGRESQL_17, container_ids, cx, file_names, wait_until_healthy};
use crate::scripted::{Images, attach_at, content, effective_settings, host, settings};
use serde_json::{Value, json};
use tokio::time::sleep;
use trove_core::{
    datastore::{GuestHost, Prepare, Release, ServerIdentity},
    id::{GenericUuid, InstanceId},
    model::{ByteSize, Endpoint, Flavor},
};

/// Makes the test run in a child process, on the host that it describes in JSON.
const CHILD_VARIABLE: &str = "TROVE_TEST_CHANGE_CRASHES";
const ROUNDS: usize = 6;
const MAX_LIFETIME_MS: u128 = 7000;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full tier"]
async fn changes_can_be_reverted_or_repeated_after_their_process_was_killed() {
    if let Ok(host) = env::var(CHILD_VARIABLE) {
        return change_repeatedly(&serde_json::from_str(&host).unwrap()).await;
    }
    let (mut images, fixture) = (Images::new(), Fixture::new(POSTGRESQL_17).await);
    let (first, second) = (images.scripted("1.5", &[]).await, images.scripted("2.1", &[]).await);
    let host = host(&fixture, &first);
    attach_at(&host).prepare(&cx(), &Prepare::default()).await.unwrap();
    fs::write(host.volume.join("data/content"), "mine\n").unwrap();
    let (old, new) = (Release::new("1", first), Release::new("2", second.clone()));
    for round in 0..ROUNDS {
        let mut child = spawn(&host, &second);
        // A version 4 UUID is a source of randomness.
        let lifetime = InstanceId::new_v4().into_untyped_uuid().as_u128() % MAX_LIFETIME_MS;
        sleep(Duration::from_millis(u64::try_from(lifetime).unwrap())).await;
        child.kill().unwrap();
        child.wait().unwrap();

        let server = attach_at(&host);
        let upgrade = server.abilities().upgrade.unwrap();
        if round % 2 == 1 {
            upgrade.upgrade(&cx(), &new).await.unwrap();
            assert_eq!(wait_until_healthy(&*server).await.server_version.as_deref(), Some("2.1"));
        }
        upgrade.revert(&cx(), &old).await.unwrap();
        server.abilities().resize.unwrap().resize(&cx(), &fixture.host.flavor).await.unwrap();
        let desired = settings(&[("live", &round.to_string())]);
        server.abilities().configuration.unwrap().apply(&cx(), &desired).await.unwrap();
        server.stop(&cx()).await.unwrap();
        server.start(&cx()).await.unwrap();
        assert_eq!(wait_until_healthy(&*server).await.server_version.as_deref(), Some("1.5"));
        assert_eq!((content(&host).as_str(), effective_settings(&host)), ("mine\n", vec![format!("live={round}")]));
        assert_eq!(fs::read_to_string(host.directory.join("run/memory")).unwrap(), "256\n");
        assert_eq!(file_names(&host.volume), ["data"]);
        assert!(!host.directory.join("probe").exists());
        assert_eq!(container_ids(fixture.local.scope()).await.len(), 1);
    }
    fixture.remove().await;
}

/// Changes the server until the process is killed.
async fn change_repeatedly(description: &Value) {
    let (host, image) = parse(description);
    let (old, new) = (Release::new("1", host.image.clone()), Release::new("2", image));
    let (small, large) = (host.flavor.clone(), Flavor::new("large", ByteSize::bytes(300 * MIB), 1));
    let server = attach_at(&host);
    for round in 0.. {
        server.abilities().configuration.unwrap().catalog(&cx()).await.unwrap();
        server.abilities().upgrade.unwrap().upgrade(&cx(), &new).await.unwrap();
        let desired = settings(&[("live", &round.to_string()), ("static", &round.to_string())]);
        server.abilities().configuration.unwrap().apply(&cx(), &desired).await.unwrap();
        server.abilities().upgrade.unwrap().revert(&cx(), &old).await.unwrap();
        server.abilities().resize.unwrap().resize(&cx(), &large).await.unwrap();
        server.abilities().configuration.unwrap().apply(&cx(), &settings(&[("broken", "on")])).await.unwrap();
        server.abilities().resize.unwrap().resize(&cx(), &small).await.unwrap();
    }
}

fn spawn(host: &GuestHost, image: &str) -> Child {
    let description = json!({
        "instance": host.instance, "project": host.project, "scope": host.scope, "image": host.image,
        "memory": host.flavor.memory.as_bytes(), "volume": host.volume, "directory": host.directory,
        "uid": host.server.uid, "gid": host.server.gid, "network": host.network,
        "address": host.endpoint.host, "port": host.endpoint.port, "second": image,
    });
    let test = "change_crashes::changes_can_be_reverted_or_repeated_after_their_process_was_killed";
    Command::new(env::current_exe().unwrap())
        .args([test, "--exact", "--ignored", "--nocapture"])
        .env(CHILD_VARIABLE, description.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn parse(description: &Value) -> (GuestHost, String) {
    let text = |key: &str| description[key].as_str().unwrap().to_owned();
    let number = |key: &str| description[key].as_u64().unwrap();
    let instance = serde_json::from_value(description["instance"].clone()).unwrap();
    let (volume, directory) = (PathBuf::from(text("volume")), PathBuf::from(text("directory")));
    let mut host = GuestHost::new(instance, volume, directory);
    (host.project, host.scope, host.network) = (text("project"), text("scope"), text("network"));
    (host.version, host.image) = ("1".to_owned(), text("image"));
    host.flavor = Flavor::new("small", ByteSize::bytes(number("memory")), 1);
    host.volume_size = ByteSize::bytes(128 * MIB);
    let (uid, gid) = (number("uid").try_into().unwrap(), number("gid").try_into().unwrap());
    host.server = ServerIdentity { uid, gid };
    host.endpoint = Endpoint { host: text("address"), port: number("port").try_into().unwrap() };
    (host, text("second"))
}
