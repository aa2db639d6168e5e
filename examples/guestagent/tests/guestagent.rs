//! Tests of the guest agent as a process beside a real server, with a real broker.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test helpers")]

#[allow(dead_code, unreachable_pub, reason = "shared with other tests")]
#[path = "../../../trove-core/tests/amqp/broker.rs"]
mod broker;
#[allow(dead_code, unreachable_pub, reason = "shared with other tests")]
#[path = "../../../trove-core/tests/amqp/certificates.rs"]
mod certificates;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};

use broker::RabbitMqContainer;
use tempfile::TempDir;
use tokio::{
    runtime::Runtime,
    task::block_in_place,
    time::{sleep, timeout},
};
use trove_core::{
    Trove,
    conformance::platform::{self, Agents},
    control::{InstanceHandle, NewInstance},
    error::Kind,
    id::InstanceId,
    model::{Flavor, PageRequest, mib},
    secret::{ExposeSecret, SecretString},
};
use trove_drivers::{LocalPlatform, PostgreSql, conformance::LocalTestbed};

const AGENT: &str = env!("CARGO_BIN_EXE_trove-guestagent");

/// The deadline for each condition. It only bounds how long a broken test hangs.
const TIMEOUT: Duration = Duration::from_secs(180);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A directory for the data of a service. Stops agents and removes containers when dropped, also
/// after a panic.
struct Fixture {
    directory: TempDir,
    broker: Arc<RabbitMqContainer>,
}

impl Fixture {
    async fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), broker: RabbitMqContainer::shared().await }
    }

    fn platform(&self) -> PathBuf {
        self.directory.path().join("platform")
    }

    fn guest_directory(&self, instance: InstanceId) -> PathBuf {
        self.platform().join("guests").join(instance.to_string())
    }

    /// Starts a service in this directory as soon as the previous one has released it.
    async fn start_service(&self) -> (Trove, LocalPlatform) {
        let local = wait_for("the directory to be released", async || {
            match LocalPlatform::builder(self.platform())
                .agent_program(AGENT)
                .agent_environment(std::env::vars_os())
                .connect()
            {
                Err(error) if error.kind() == Kind::Conflict => None,
                local => Some(local.unwrap()),
            }
        });
        let local = local.await;
        let trove = Trove::builder()
            .store(format!("sqlite:{}", self.directory.path().join("trove.db").display()))
            .message_broker(self.broker.clone().shared_handle())
            .platform(local.clone())
            .datastore(PostgreSql::new().image("17", image()))
            .flavor(Flavor::new("tiny", mib(256), 1))
            .flavor(Flavor::new("small", mib(320), 1))
            .flavor(Flavor::new("medium", mib(384), 1))
            .start();
        (trove.await.unwrap(), local)
    }

    /// Returns the process ID of the running agent.
    fn agent_pid(&self, instance: InstanceId) -> Option<u32> {
        let pid = fs::read_to_string(self.guest_directory(instance).join("agent.lock")).ok()?.parse().ok()?;
        is_agent(pid).then_some(pid)
    }

    /// Runs a second agent with the same configuration until it exits.
    fn run_second_agent(&self, instance: InstanceId) -> Output {
        Command::new(AGENT).arg("--config").arg(self.guest_directory(instance).join("agent.json")).output().unwrap()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let Ok(guests) = fs::read_dir(self.platform().join("guests")) else { return };
        for guest in guests.flatten() {
            if let Some(id) = guest.file_name().to_str().and_then(|id| id.parse().ok()) {
                self.agent_pid(id).into_iter().for_each(|agent| kill(agent, "-KILL"));
                let _ = Command::new("docker").args(["rm", "--force", &format!("trove-{id}")]).output();
            }
        }
    }
}

/// Returns whether the process runs and is an agent of this test.
fn is_agent(pid: u32) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| program == Path::new(AGENT))
}

fn kill(pid: u32, signal: &str) {
    Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
}

fn docker(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).output().unwrap();
    assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Polls until there is a value, and returns it.
async fn wait_for<T>(what: &str, poll: impl AsyncFn() -> Option<T>) -> T {
    let polling = async {
        loop {
            match poll().await {
                Some(value) => return value,
                None => sleep(POLL_INTERVAL).await,
            }
        }
    };
    timeout(TIMEOUT, polling).await.expect(what)
}

/// Returns the names of the users as soon as the guest responds.
async fn users(instance: &InstanceHandle) -> Vec<String> {
    wait_for("a response of the guest", async || match instance.accounts().users(PageRequest::default()).await {
        Err(error) if error.is_transient() => None,
        users => Some(users.unwrap().items.into_iter().map(|user| user.user.name).collect()),
    })
    .await
}

/// Executes a statement and returns the number that a query yields, or `None` if either fails.
async fn query_number(uri: &SecretString, sql: &str, query: &str) -> Option<i64> {
    let (client, connection) = tokio_postgres::connect(uri.expose_secret(), tokio_postgres::NoTls).await.ok()?;
    tokio::spawn(connection);
    client.batch_execute(sql).await.ok()?;
    client.query_one(query, &[]).await.ok()?.try_get(0).ok()
}

fn uri(instance: &InstanceHandle) -> SecretString {
    instance.uri("app").unwrap().user("app").with_password(&SecretString::from("secret"))
}

const SERVER_START: &str = "SELECT extract(epoch FROM pg_postmaster_start_time())::int8";
const ROW_COUNT: &str = "SELECT count(*) FROM t";

#[tokio::test(flavor = "multi_thread")]
async fn agents_and_servers_survive_the_service_and_each_other() {
    let fixture = Fixture::new().await;
    // Dropping the runtime of the first service has the effect of killing its process.
    let first_runtime = Runtime::new().unwrap();
    let (killed, id) = block_in_place(|| {
        first_runtime.block_on(async {
            let (trove, _local) = fixture.start_service().await;
            let new = NewInstance::new("orders", "postgresql").flavor("tiny").database("app").user("app", "secret");
            let instance = trove.create(new).await.unwrap().active().await.unwrap();
            let uri = uri(&instance);
            assert_eq!(
                query_number(&uri, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)", ROW_COUNT).await,
                Some(1)
            );
            assert_environment_and_arguments_contain_no_secrets(&fixture, instance.id);
            assert_second_agent_is_rejected(&fixture, instance.id);
            assert_readable_configuration_is_rejected(&fixture, instance.id);

            // A killed agent is restarted without affecting its server.
            let (server_start, agent) =
                (query_number(&uri, "", SERVER_START).await.unwrap(), fixture.agent_pid(instance.id).unwrap());
            kill(agent, "-KILL");
            wait_for("the next agent", async || fixture.agent_pid(instance.id).filter(|next| *next != agent)).await;
            assert_eq!(users(&instance).await, ["app"]);
            assert_eq!(query_number(&uri, "", SERVER_START).await, Some(server_start));
            (trove, instance.id)
        })
    });
    let agent = fixture.agent_pid(id).unwrap();
    first_runtime.shutdown_background();
    drop(killed);

    // Without a service the agent still restarts its server.
    let (trove, local) = fixture.start_service().await;
    let instance = trove.instance(id).await.unwrap();
    let uri = uri(&instance);
    assert_eq!(users(&instance).await, ["app"]);
    assert_eq!(fixture.agent_pid(id), Some(agent), "the service has replaced the agent");
    trove.shut_down().await;
    drop((instance, trove, local));
    assert_eq!(fixture.agent_pid(id), Some(agent));
    docker(&["kill", &format!("trove-{id}")]);
    wait_for("the server", async || query_number(&uri, "INSERT INTO t VALUES (2)", ROW_COUNT).await).await;

    // A new agent creates a missing container with the current flavor.
    let (trove, local) = fixture.start_service().await;
    let instance = trove.instance(id).await.unwrap();
    users(&instance).await;
    for flavor in ["small", "medium"] {
        instance.resize(flavor).await.unwrap().active().await.unwrap();
    }
    let memory_limit = || docker(&["inspect", "--format", "{{.HostConfig.Memory}}", &format!("trove-{id}")]);
    let resized = memory_limit();
    kill(fixture.agent_pid(id).unwrap(), "-KILL");
    docker(&["rm", "--force", &format!("trove-{id}")]);
    assert_eq!(wait_for("the server", async || query_number(&uri, "", ROW_COUNT).await).await, 2);
    assert_eq!(memory_limit(), resized);

    users(&instance).await;
    // An agent that does not respond cannot prevent the deletion.
    let agent = wait_for("the agent", async || fixture.agent_pid(id)).await;
    kill(agent, "-STOP");
    instance.delete().await.unwrap().wait().await.unwrap();
    assert!(!is_agent(agent));
    assert_eq!(local.inventory().await.unwrap(), [""; 0]);
    assert_eq!(fixture.broker.resources_of(&id.to_string()).await, [""; 0]);
    trove.shut_down().await;
}

fn image() -> String {
    std::env::var("TROVE_IMAGE_POSTGRESQL_17").expect("TROVE_IMAGE_POSTGRESQL_17 names an image")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_local_platform_with_agent_processes_conforms() {
    let agents = Agents::new(RabbitMqContainer::shared().await.shared_handle(), "postgresql", "17");
    let testbed = LocalTestbed::new(image()).unwrap().agents(AGENT, agents);
    let report = platform::certify("local, agent processes", testbed).await;
    assert!(report.passed(), "{report}");
}

/// The process table is visible to other users of the machine.
fn assert_environment_and_arguments_contain_no_secrets(fixture: &Fixture, instance: InstanceId) {
    let agent = fixture.agent_pid(instance).unwrap();
    let environment = fs::read_to_string(format!("/proc/{agent}/environ")).unwrap();
    let names: BTreeSet<&str> = environment.split('\0').filter_map(|line| Some(line.split_once('=')?.0)).collect();
    let allowed = BTreeSet::from(["PATH", "HOME", "TZ", "RUST_LOG", "RUST_BACKTRACE", "DOCKER_HOST"]);
    assert!(names.is_subset(&allowed), "{names:?}");
    let command = fs::read_to_string(format!("/proc/{agent}/cmdline")).unwrap();
    let file = fixture.guest_directory(instance).join("agent.json");
    assert_eq!(command, format!("{AGENT}\0--config\0{}\0", file.display()));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
}

fn assert_second_agent_is_rejected(fixture: &Fixture, instance: InstanceId) {
    let second = fixture.run_second_agent(instance);
    assert_eq!(second.status.code(), Some(1));
    let stderr = String::from_utf8(second.stderr).unwrap();
    assert!(stderr.contains("another agent runs in directory"), "{stderr}");
}

/// The configuration contains secrets.
fn assert_readable_configuration_is_rejected(fixture: &Fixture, instance: InstanceId) {
    use std::os::unix::fs::PermissionsExt;
    let file = fixture.guest_directory(instance).join("agent.json");
    let set_mode = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    set_mode(0o640);
    let rejected = fixture.run_second_agent(instance);
    set_mode(0o600);
    assert_eq!(rejected.status.code(), Some(1));
    let stderr = String::from_utf8(rejected.stderr).unwrap();
    assert!(stderr.contains("accessible to its group or others"), "{stderr}");
}
