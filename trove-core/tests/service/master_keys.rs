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
fn key_text() -> String {
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
async fn rotate(world: &World, directory: &Path, keys: impl KeyProvider) {
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
        "prepare" => FaultAction::FailBefore(Error::unavailable("temporarily unavailable")),
        _ => FaultAction::Proceed,
    });
}

/// Waits until the instance serves.
async fn until_serving(trove: &Trove, world: &World, id: InstanceId) {
    let mut operations = trove.operations(id).await.unwrap();
    let create = trove.operation(operations.remove(0).id).await.unwrap();
    create.active().await.unwrap();
    assert!(world.serves(id, &["app"], &["app"]));
}

/// Returns the text of all rows of the store.
async fn rows(directory: &Path) -> String {
    let url = format!("sqlite:{}", directory.join("trove.db").display());
    let mut store = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let mut text = String::new();
    for table in ["guest_identities", "operations", "datastore_versions"] {
        let query = sqlx::query(sqlx::AssertSqlSafe(format!("SELECT * FROM {table}")));
        for row in query.fetch_all(&mut store).await.unwrap() {
            for column in row.columns() {
                text += row.try_get::<Option<&str>, _>(column.ordinal()).ok().flatten().unwrap_or_default();
                text.push('\n');
            }
        }
    }
    store.close().await.unwrap();
    text
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
    let pending = create_pending(&trove, &mut trove.events()).await;
    let version = NewVersion::new("memory", "1-private", "1", "registry.example/memory:1").login("robot", "a token");
    trove.datastores().add(version).await.unwrap();
    trove.shut_down().await;

    let old = fs::read_to_string(&path).unwrap().trim().to_owned();
    let (new, former) = (key_text(), keys(&[&old]).current().id().to_string());
    assert_eq!(rows(directory.path()).await.matches(&former).count(), 2 * 2 + 1 + 1);
    let write = |keys: &[&String]| {
        let text = keys.iter().map(|key| format!("{key}\n")).collect::<String>();
        fs::write(&path, text).unwrap();
    };

    write(&[&new]);
    let error = start(&world, directory.path(), KeyFile::new(&path)).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains(&former), "{error:?}");
    assert!(!format!("{error:?}").contains(&new[..8]), "{error:?}");

    write(&[&new, &old]);
    rotate(&world, directory.path(), KeyFile::new(&path)).await;
    assert!(!rows(directory.path()).await.contains(&former));

    write(&[&new]);
    world.script(|_, _| FaultAction::Proceed);
    let trove = start(&world, directory.path(), KeyFile::new(&path)).await.unwrap();
    until_serving(&trove, &world, pending).await;
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
    let [one, other, last] = [(); 3].map(|()| key_text());
    let trove = start(&world, directory.path(), keys(&[&one])).await.unwrap();
    fail_prepare(&world);
    let mut events = trove.events();
    let mut pending = Vec::new();
    for _ in 0..INSTANCES {
        pending.push(create_pending(&trove, &mut events).await);
    }
    trove.shut_down().await;

    for _ in 0..KILLS {
        let mut child = spawn(directory.path(), &one, &other);
        let mut output = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        while !output.contains("started") {
            output.clear();
            assert_ne!(stdout.read_line(&mut output).unwrap(), 0, "the process ended by itself");
        }
        // A random UUID as a random number.
        let lifetime = InstanceId::new_v4().into_untyped_uuid().as_u128() % MAX_LIFETIME_MS;
        tokio::time::sleep(Duration::from_millis(u64::try_from(lifetime).unwrap())).await;
        child.kill().unwrap();
        child.wait().unwrap();
    }

    let all = keys(&[&last, &one, &other]);
    rotate(&world, directory.path(), all).await;
    world.script(|_, _| FaultAction::Proceed);
    let trove = start(&world, directory.path(), keys(&[&last])).await.unwrap();
    for id in pending {
        until_serving(&trove, &world, id).await;
    }
    trove.shut_down().await;
}

/// Runs in the child process, until it is killed.
#[allow(clippy::print_stdout, reason = "the parent process waits for this output")]
async fn rotate_forever(directory: &Path) {
    let world = World::new();
    println!("started");
    for variable in KEY_VARIABLES.into_iter().cycle() {
        rotate(&world, directory, KeyVariable::new(variable)).await;
    }
}

fn spawn(directory: &Path, one: &str, other: &str) -> Child {
    let test = "master_keys::a_key_rotation_continues_after_the_service_was_killed";
    Command::new(env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
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
    fs::write(&path, key_text()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let results = [
        (start(&world, directory.path(), KeyFile::new(&path)).await, "its mode is 0640"),
        (start(&world, directory.path(), KeyVariable::new("TROVE_TEST_NO_KEYS")).await, "is not set"),
        (start(&world, directory.path(), KeyVariable::new("PATH")).await, "key 1 in the environment variable PATH"),
    ];
    for (result, message) in results {
        let error = result.err().unwrap();
        assert_eq!(error.kind(), Kind::Invalid, "{error:?}");
        assert!(error.to_string().contains(message), "{error:?}");
        assert!(!format!("{error:?}").contains("/bin"), "{error:?}");
    }
}
