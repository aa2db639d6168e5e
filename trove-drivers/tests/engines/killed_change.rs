//! The process that upgrades, resizes and configures a server is killed at random moments, again and again: what was
//! begun can always be undone or brought to its end, and the data is what it was.

use std::{
    env, fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::common::{Fixture, MIB, POSTGRESQL_17, containers, cx, file_names, is_quick_tier};
use crate::scripted::{Images, host, in_force, server_at, settings, words};
use serde_json::{Value, json};
use tokio::time::sleep;
use trove_core::{
    datastore::{GuestHost, Prepare, Release, ServerIdentity},
    id::{GenericUuid, InstanceId},
    model::{ByteSize, Endpoint, Flavor, Health},
};

const CHILD: &str = "TROVE_TEST_KILLED_CHANGE";
const ROUNDS: usize = 6;
const LONGEST_LIFE: u128 = 7000;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_change_is_undone_or_brought_to_its_end() {
    if let Ok(place) = env::var(CHILD) {
        return change_for_ever(&serde_json::from_str(&place).unwrap()).await;
    }
    if is_quick_tier() {
        return;
    }
    let (mut images, fixture) = (Images::new(), Fixture::new(POSTGRESQL_17).await);
    let (first, second) = (images.scripted("1.5", &[]).await, images.scripted("2.1", &[]).await);
    let host = host(&fixture, &first);
    server_at(&host).prepare(&cx(), &Prepare::default()).await.unwrap();
    fs::write(host.volume.join("data/words"), "mine\n").unwrap();
    let (old, new) = (Release::new("1", first), Release::new("2", second.clone()));
    for round in 0..ROUNDS {
        let mut child = spawn(&host, &second);
        // A random version 4 id is as good a die as any.
        let life = InstanceId::new_v4().into_untyped_uuid().as_u128() % LONGEST_LIFE;
        sleep(Duration::from_millis(u64::try_from(life).unwrap())).await;
        child.kill().unwrap();
        child.wait().unwrap();

        let server = server_at(&host);
        let upgrade = server.abilities().upgrade.unwrap();
        if round % 2 == 1 {
            upgrade.upgrade(&cx(), &new).await.unwrap();
            assert_eq!(server.observe(&cx()).await.unwrap().server_version.as_deref(), Some("2.1"));
        }
        upgrade.revert(&cx(), &old).await.unwrap();
        server.abilities().resize.unwrap().resize(&cx(), &fixture.host.flavor).await.unwrap();
        let wanted = settings(&[("live", &round.to_string())]);
        server.abilities().configuration.unwrap().apply(&cx(), &wanted).await.unwrap();
        server.stop(&cx()).await.unwrap();
        server.start(&cx()).await.unwrap();
        let observed = server.observe(&cx()).await.unwrap();
        assert_eq!((observed.health, observed.server_version.as_deref()), (Health::Healthy, Some("1.5")));
        assert_eq!((words(&host).as_str(), in_force(&host)), ("mine\n", vec![format!("live={round}")]));
        assert_eq!(fs::read_to_string(host.directory.join("run/memory")).unwrap(), "256\n");
        assert_eq!(file_names(&host.volume), ["data"]);
        assert!(!host.directory.join("probe").exists());
        assert_eq!(containers(fixture.local.scope()).await.len(), 1);
    }
    fixture.removed().await;
}

/// What the process does that is killed.
async fn change_for_ever(place: &Value) {
    let (host, image) = read(place);
    let (old, new) = (Release::new("1", host.image.clone()), Release::new("2", image));
    let (small, large) = (host.flavor.clone(), Flavor::new("large", ByteSize::bytes(300 * MIB), 1));
    let server = server_at(&host);
    for round in 0.. {
        server.abilities().configuration.unwrap().catalog(&cx()).await.unwrap();
        server.abilities().upgrade.unwrap().upgrade(&cx(), &new).await.unwrap();
        let wanted = settings(&[("live", &round.to_string()), ("static", &round.to_string())]);
        server.abilities().configuration.unwrap().apply(&cx(), &wanted).await.unwrap();
        server.abilities().upgrade.unwrap().revert(&cx(), &old).await.unwrap();
        server.abilities().resize.unwrap().resize(&cx(), &large).await.unwrap();
        server.abilities().configuration.unwrap().apply(&cx(), &settings(&[("broken", "on")])).await.unwrap();
        server.abilities().resize.unwrap().resize(&cx(), &small).await.unwrap();
    }
}

fn spawn(host: &GuestHost, image: &str) -> Child {
    let place = json!({
        "instance": host.instance, "project": host.project, "scope": host.scope, "image": host.image,
        "memory": host.flavor.memory.as_bytes(), "volume": host.volume, "directory": host.directory,
        "uid": host.server.uid, "gid": host.server.gid, "network": host.network,
        "address": host.endpoint.host, "port": host.endpoint.port, "second": image,
    });
    Command::new(env::current_exe().unwrap())
        .args(["killed_change::a_killed_change_is_undone_or_brought_to_its_end", "--exact", "--nocapture"])
        .env(CHILD, place.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn read(place: &Value) -> (GuestHost, String) {
    let text = |key: &str| place[key].as_str().unwrap().to_owned();
    let number = |key: &str| place[key].as_u64().unwrap();
    let instance = serde_json::from_value(place["instance"].clone()).unwrap();
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
