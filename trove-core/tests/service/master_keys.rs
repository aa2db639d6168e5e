//! Sources and rotation of master keys.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use sqlx::{Column, Connection, Row};
use trove_core::{
    Trove,
    conformance::memory::World,
    control::{Builder, NewInstance, NewVersion},
    error::{Error, Kind, Result},
    events::EventStream,
    id::{GenericUuid, InstanceId},
    layer::FaultAction,
    model::EventKind,
    secret::{KeyFile, KeyProvider, KeyVariable, MasterKey, MasterKeys},
    time::{Clock, Timestamp},
};

const DIRECTORY: &str = "TROVE_TEST_KEYS_DIRECTORY";
const KEY_VARIABLES: [&str; 2] = ["TROVE_TEST_KEYS_ONE", "TROVE_TEST_KEYS_OTHER"];
const INSTANCES: usize = 12;
const KILLS: usize = 12;
const MAX_LIFETIME_MS: u128 = 150;

/// Returns a new key in text form.
fn text() -> String {
    let half = || InstanceId::new_v4().into_untyped_uuid().into_bytes();
    BASE64_STANDARD.encode([half(), half()].concat())
}

fn keys(texts: &[&String]) -> MasterKeys {
    let key = |text: &&String| MasterKey::from_base64(text).unwrap();
    let (current, former) = texts.split_first().unwrap();
    former.iter().fold(MasterKeys::new(key(current)), |keys, text| keys.former(key(text)))
}

async fn start(world: &World, directory: &Path, keys: impl KeyProvider) -> Result<Trove> {
    builder(world, directory, keys).start().await
}

/// Starts and stops the service with a clock at which no operation is due.
async fn change(world: &World, directory: &Path, keys: impl KeyProvider) {
    let clock = Clock::manual(Timestamp::UNIX_EPOCH);
    builder(world, directory, keys).clock(clock).start().await.unwrap().shut_down().await;
}

fn builder(world: &World, directory: &Path, keys: impl KeyProvider) -> Builder {
    let store = format!("sqlite:{}", directory.join("trove.db").display());
    Trove::builder().store(store).platform(world.platform()).datastore(world.driver()).keys(keys)
}

/// Creates an instance whose creation is pending with a password, after a first failed attempt.
async fn create_pending(trove: &Trove, events: &mut EventStream) -> InstanceId {
    let create =
        trove.create(NewInstance::new("orders", "memory").database("app").user("app", "secret")).await.unwrap();
    while let Some(event) = events.next().await {
        if event.instance == create.instance_id() && matches!(event.kind, EventKind::Failed { .. }) {
            break;
        }
    }
    create.instance_id()
}

fn fail_prepare(world: &World) {
    world.script(|_, call| match call.name {
        "prepare" => FaultAction::FailBefore(Error::unavailable("not yet")),
        _ => FaultAction::Proceed,
    });
}

/// Waits until the instance serves.
async fn serves(trove: &Trove, world: &World, id: InstanceId) {
    let mut operations = trove.operations(id).await.unwrap();
    let create = trove.operation(operations.remove(0).id).await.unwrap();
    create.active().await.unwrap();
    assert!(world.serves(id, &["app"], &["app"]));
}

/// Returns the text of all rows of the store.
async fn rows(directory: &Path) -> String {
    let url = format!("sqlite:{}", directory.join("trove.db").display());
    let mut store = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let mut told = String::new();
    for table in ["guest_identities", "operations", "datastore_versions"] {
        let query = sqlx::query(sqlx::AssertSqlSafe(format!("SELECT * FROM {table}")));
        for row in query.fetch_all(&mut store).await.unwrap() {
            for column in row.columns() {
                told += row.try_get::<Option<&str>, _>(column.ordinal()).ok().flatten().unwrap_or_default();
                told.push('\n');
            }
        }
    }
    store.close().await.unwrap();
    told
}

#[tokio::test]
async fn a_rotated_master_key_replaces_the_old_one() {
    let (directory, world) = (tempfile::tempdir().unwrap(), World::new());
    let path = directory.path().join("keys");
    let trove = start(&world, directory.path(), KeyFile::new(&path)).await.unwrap();
    let active =
        trove.create(NewInstance::new("orders", "memory").database("app").user("app", "secret")).await.unwrap();
    let active = active.active().await.unwrap().id;
    fail_prepare(&world);
    let waiting = create_pending(&trove, &mut trove.events()).await;
    let version = NewVersion::new("memory", "1-private", "1", "registry.example/memory:1").login("robot", "a token");
    trove.datastores().add(version).await.unwrap();
    trove.shut_down().await;

    let old = fs::read_to_string(&path).unwrap().trim().to_owned();
    let (new, former) = (text(), keys(&[&old]).current().id().to_string());
    assert_eq!(rows(directory.path()).await.matches(&former).count(), 2 * 2 + 1 + 1);
    let write = |lines: &[&String]| {
        let lines = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        fs::write(&path, lines).unwrap();
    };

    write(&[&new]);
    let error = start(&world, directory.path(), KeyFile::new(&path)).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains(&former), "{error:?}");
    assert!(!format!("{error:?}").contains(&new[..8]), "{error:?}");

    write(&[&new, &old]);
    change(&world, directory.path(), KeyFile::new(&path)).await;
    assert!(!rows(directory.path()).await.contains(&former));

    write(&[&new]);
    world.script(|_, _| FaultAction::Proceed);
    let trove = start(&world, directory.path(), KeyFile::new(&path)).await.unwrap();
    serves(&trove, &world, waiting).await;
    let active = trove.instance(active).await.unwrap();
    active.restart().await.unwrap().active().await.unwrap();
    trove.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_rotation_continues_after_the_service_was_killed() {
    if let Some(directory) = env::var_os(DIRECTORY) {
        return rotate_forever(&PathBuf::from(directory)).await;
    }
    let (directory, world) = (tempfile::tempdir().unwrap(), World::new());
    let [one, other, last] = [(); 3].map(|()| text());
    let trove = start(&world, directory.path(), keys(&[&one])).await.unwrap();
    fail_prepare(&world);
    let mut events = trove.events();
    let mut waiting = Vec::new();
    for _ in 0..INSTANCES {
        waiting.push(create_pending(&trove, &mut events).await);
    }
    trove.shut_down().await;

    for _ in 0..KILLS {
        let mut child = spawn(directory.path(), &one, &other);
        let mut begun = String::new();
        let mut told = BufReader::new(child.stdout.take().unwrap());
        while !begun.contains("begun") {
            begun.clear();
            assert_ne!(told.read_line(&mut begun).unwrap(), 0, "it ended by itself");
        }
        // A random UUID as a random number.
        let life = InstanceId::new_v4().into_untyped_uuid().as_u128() % MAX_LIFETIME_MS;
        tokio::time::sleep(Duration::from_millis(u64::try_from(life).unwrap())).await;
        child.kill().unwrap();
        child.wait().unwrap();
    }

    let all = keys(&[&last, &one, &other]);
    change(&world, directory.path(), all).await;
    world.script(|_, _| FaultAction::Proceed);
    let trove = start(&world, directory.path(), keys(&[&last])).await.unwrap();
    for id in waiting {
        serves(&trove, &world, id).await;
    }
    trove.shut_down().await;
}

/// Runs in the process that is killed.
#[allow(clippy::print_stdout, reason = "whoever kills it waits for this")]
async fn rotate_forever(directory: &Path) {
    let world = World::new();
    println!("begun");
    for ring in KEY_VARIABLES.into_iter().cycle() {
        change(&world, directory, KeyVariable::new(ring)).await;
    }
}

fn spawn(directory: &Path, one: &str, other: &str) -> Child {
    let this = "master_keys::a_key_rotation_continues_after_the_service_was_killed";
    Command::new(env::current_exe().unwrap())
        .args([this, "--exact", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(KEY_VARIABLES[0], format!("{one},{other}"))
        .env(KEY_VARIABLES[1], format!("{other} , {one}"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn starting_without_the_master_keys_fails() {
    let (directory, world) = (tempfile::tempdir().unwrap(), World::new());
    let path = directory.path().join("keys");
    fs::write(&path, text()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let refused = [
        (start(&world, directory.path(), KeyFile::new(&path)).await, "its mode is 0640"),
        (start(&world, directory.path(), KeyVariable::new("TROVE_TEST_NO_KEYS")).await, "is not set"),
        (start(&world, directory.path(), KeyVariable::new("PATH")).await, "key 1 in the environment variable PATH"),
    ];
    for (result, said) in refused {
        let error = result.err().unwrap();
        assert_eq!(error.kind(), Kind::Invalid, "{error:?}");
        assert!(error.to_string().contains(said), "{error:?}");
        assert!(!format!("{error:?}").contains("/bin"), "{error:?}");
    }
}
