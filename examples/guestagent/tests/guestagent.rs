//! The guest agent as a process of its own, beside a real server, reached over a real broker.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

#[allow(dead_code, unreachable_pub, reason = "it is shared with other tests")]
#[path = "../../../trove-core/tests/amqp/broker.rs"]
mod broker;

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

/// How long what is waited for may take. It bounds how long a broken test hangs.
const LIMIT: Duration = Duration::from_secs(180);
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// A directory with all that a service keeps, which is cleared even where a test panics.
struct Site {
    directory: TempDir,
    broker: Arc<RabbitMqContainer>,
}

impl Site {
    async fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), broker: RabbitMqContainer::shared().await }
    }

    fn platform(&self) -> PathBuf {
        self.directory.path().join("platform")
    }

    fn guest(&self, instance: InstanceId) -> PathBuf {
        self.platform().join("guests").join(instance.to_string())
    }

    /// A service in this directory, as soon as the one before is gone.
    async fn serve(&self) -> (Trove, LocalPlatform) {
        let local = eventually("the directory is free", async || {
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
        let image =
            std::env::var("TROVE_IMAGE_POSTGRESQL_17").unwrap_or_else(|_| "trove-local/postgresql:17".to_owned());
        let trove = Trove::builder()
            .store(format!("sqlite:{}", self.directory.path().join("trove.db").display()))
            .message_broker(self.broker.clone().shared_handle())
            .platform(local.clone())
            .datastore(PostgreSql::new().image("17", image))
            .flavor(Flavor::new("tiny", mib(256), 1))
            .flavor(Flavor::new("small", mib(320), 1))
            .flavor(Flavor::new("medium", mib(384), 1))
            .start();
        (trove.await.unwrap(), local)
    }

    /// The process that is the agent.
    fn agent(&self, instance: InstanceId) -> Option<u32> {
        let id = fs::read_to_string(self.guest(instance).join("agent.lock")).ok()?.parse().ok()?;
        is_agent(id).then_some(id)
    }

    /// The agent by hand, with the same configuration.
    fn another(&self, instance: InstanceId) -> Output {
        Command::new(AGENT).arg("--config").arg(self.guest(instance).join("agent.json")).output().unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let Ok(guests) = fs::read_dir(self.platform().join("guests")) else { return };
        for guest in guests.flatten() {
            if let Some(id) = guest.file_name().to_str().and_then(|id| id.parse().ok()) {
                self.agent(id).into_iter().for_each(|agent| kill(agent, "-KILL"));
                let _ = Command::new("docker").args(["rm", "--force", &format!("trove-{id}")]).output();
            }
        }
    }
}

/// True where a process of this number runs that is one of our agents.
fn is_agent(id: u32) -> bool {
    fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|program| program == Path::new(AGENT))
}

fn kill(id: u32, signal: &str) {
    Command::new("kill").args([signal, &id.to_string()]).status().unwrap();
}

fn docker(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).output().unwrap();
    assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What comes of a look, as soon as something does.
async fn eventually<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let found = async {
        loop {
            match look().await {
                Some(found) => return found,
                None => sleep(LOOK_PAUSE).await,
            }
        }
    };
    timeout(LIMIT, found).await.expect(what)
}

/// The users it has, as soon as its guest answers.
async fn users(instance: &InstanceHandle) -> Vec<String> {
    eventually("the guest answers", async || match instance.accounts().users(PageRequest::default()).await {
        Err(error) if error.is_transient() => None,
        users => Some(users.unwrap().items.into_iter().map(|user| user.user.name).collect()),
    })
    .await
}

/// Runs this in the database and returns the one number that the query yields; `None` where nobody answers.
async fn ask(uri: &SecretString, sql: &str, query: &str) -> Option<i64> {
    let (client, connection) = tokio_postgres::connect(uri.expose_secret(), tokio_postgres::NoTls).await.ok()?;
    tokio::spawn(connection);
    client.batch_execute(sql).await.ok()?;
    client.query_one(query, &[]).await.ok()?.try_get(0).ok()
}

fn uri(instance: &InstanceHandle) -> SecretString {
    instance.uri("app").unwrap().user("app").with_password(&SecretString::from("secret"))
}

const BEGAN: &str = "SELECT extract(epoch FROM pg_postmaster_start_time())::int8";
const ROWS: &str = "SELECT count(*) FROM t";

#[tokio::test(flavor = "multi_thread")]
async fn agents_servers_and_services_outlive_each_other() {
    let site = Site::new().await;
    // The first service has a runtime of its own, with which it vanishes as it does when it is killed.
    let first = Runtime::new().unwrap();
    let (killed, id) = block_in_place(|| {
        first.block_on(async {
            let (trove, _local) = site.serve().await;
            let new = NewInstance::new("orders", "postgresql").flavor("tiny").database("app").user("app", "secret");
            let instance = trove.create(new).await.unwrap().active().await.unwrap();
            let uri = uri(&instance);
            assert_eq!(ask(&uri, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)", ROWS).await, Some(1));
            the_agent_is_told_no_more_than_it_needs(&site, instance.id);
            the_agent_is_the_only_one(&site, instance.id);
            a_file_that_others_may_read_is_refused(&site, instance.id);

            // Its server does not notice that the agent is killed, and the next one is there soon.
            let (began, agent) = (ask(&uri, "", BEGAN).await.unwrap(), site.agent(instance.id).unwrap());
            kill(agent, "-KILL");
            eventually("the next agent", async || site.agent(instance.id).filter(|next| *next != agent)).await;
            assert_eq!(users(&instance).await, ["app"]);
            assert_eq!(ask(&uri, "", BEGAN).await, Some(began));
            (trove, instance.id)
        })
    });
    let agent = site.agent(id).unwrap();
    first.shutdown_background();
    drop(killed);

    // Without a service the agent has the server run.
    let (trove, local) = site.serve().await;
    let instance = trove.instance(id).await.unwrap();
    let uri = uri(&instance);
    assert_eq!(users(&instance).await, ["app"]);
    assert_eq!(site.agent(id), Some(agent), "the agent is found, not replaced");
    trove.shut_down().await;
    drop((instance, trove, local));
    assert_eq!(site.agent(id), Some(agent));
    docker(&["kill", &format!("trove-{id}")]);
    eventually("the server", async || ask(&uri, "INSERT INTO t VALUES (2)", ROWS).await).await;

    // What became of the server is known to the agents after.
    let (trove, local) = site.serve().await;
    let instance = trove.instance(id).await.unwrap();
    users(&instance).await;
    for flavor in ["small", "medium"] {
        instance.resize(flavor).await.unwrap().active().await.unwrap();
    }
    let limit = || docker(&["inspect", "--format", "{{.HostConfig.Memory}}", &format!("trove-{id}")]);
    let resized = limit();
    kill(site.agent(id).unwrap(), "-KILL");
    docker(&["rm", "--force", &format!("trove-{id}")]);
    assert_eq!(eventually("the server", async || ask(&uri, "", ROWS).await).await, 2);
    assert_eq!(limit(), resized);

    users(&instance).await;
    let agent = eventually("the agent", async || site.agent(id)).await;
    instance.delete().await.unwrap().wait().await.unwrap();
    assert!(!is_agent(agent));
    assert_eq!(local.inventory().await.unwrap(), [""; 0]);
    assert_eq!(site.broker.resources_of(&id.to_string()), [""; 0]);
    trove.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_whose_agents_are_processes_passes() {
    let agents = Agents::new(RabbitMqContainer::shared().await.shared_handle(), "postgresql", "17");
    let report = platform::certify("local, apart", LocalTestbed::new().unwrap().agents(AGENT, agents)).await;
    assert!(report.passed(), "{report}");
}

/// Nothing of it is in what other users of the machine can see.
fn the_agent_is_told_no_more_than_it_needs(site: &Site, instance: InstanceId) {
    let agent = site.agent(instance).unwrap();
    let environment = fs::read_to_string(format!("/proc/{agent}/environ")).unwrap();
    let names: BTreeSet<&str> = environment.split('\0').filter_map(|line| Some(line.split_once('=')?.0)).collect();
    let allowed = BTreeSet::from(["PATH", "HOME", "TZ", "RUST_LOG", "RUST_BACKTRACE", "DOCKER_HOST"]);
    assert!(names.is_subset(&allowed), "{names:?}");
    let command = fs::read_to_string(format!("/proc/{agent}/cmdline")).unwrap();
    let file = site.guest(instance).join("agent.json");
    assert_eq!(command, format!("{AGENT}\0--config\0{}\0", file.display()));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
}

fn the_agent_is_the_only_one(site: &Site, instance: InstanceId) {
    let another = site.another(instance);
    assert_eq!(another.status.code(), Some(1));
    let said = String::from_utf8(another.stderr).unwrap();
    assert!(said.contains("another agent runs in directory"), "{said}");
}

/// Since it holds secrets.
fn a_file_that_others_may_read_is_refused(site: &Site, instance: InstanceId) {
    use std::os::unix::fs::PermissionsExt;
    let file = site.guest(instance).join("agent.json");
    let set = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    set(0o640);
    let refused = site.another(instance);
    set(0o600);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("accessible to its group or others"), "{said}");
}
