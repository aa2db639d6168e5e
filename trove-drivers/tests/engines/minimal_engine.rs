//! The smallest engine that the public API allows: what the container datastore does for it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::common::{Fixture, POSTGRESQL_17, container_ids, cx, observe_until, wait_until_healthy};
use async_trait::async_trait;
use trove_core::{
    datastore::{Datastore, Driver, GuestHost, Manifest, Prepare, Version},
    error::{Error, Kind},
    model::{Condition, Health, NewDatabase, Settings},
};
use trove_drivers::container::{ConfigFile, ContainerDriver, Engine, Readiness};

/// Runs one of the scripts as its server. The server is ready while it keeps a file in the socket
/// directory.
struct Greeter<const SCRIPT: usize> {
    run: PathBuf,
}

const READY: usize = 0;
const FAILING: usize = 1;
const SILENT: usize = 2;
const NEVER_READY: usize = 3;
const FAILING_INIT: usize = 4;

const SCRIPTS: [&str; 5] =
    [SERVE, "echo no greeting today >&2; exit 9", "exec sleep 600", "touch /run/trove/later; exec sleep 600", SERVE];

const SERVE: &str = "trap 'rm /run/trove/ready; exit 0' TERM
    cat /etc/trove/words/greeting >> /store/data/greetings || exit 3
    cp /store/data/greetings /run/trove/ready
    while :; do sleep 0.05; done";

#[async_trait]
impl<const SCRIPT: usize> Engine for Greeter<SCRIPT> {
    fn manifest() -> Manifest {
        Manifest::new("greeter", Version::new("17", "greeter:17"), 7777)
    }

    fn new(host: &GuestHost) -> Self {
        Self { run: host.directory.join("run") }
    }

    fn volume_target(&self) -> &str {
        "/store"
    }

    fn files(&self, _host: &GuestHost, _settings: &Settings) -> Vec<ConfigFile> {
        vec![ConfigFile::new("words/greeting", "hello\n")]
    }

    fn init_command(&self, _host: &GuestHost, _data: &str) -> Option<Vec<String>> {
        (SCRIPT == FAILING_INIT).then(|| shell("printf '\\033[2Jno words\\n' >&2; exit 7"))
    }

    fn server_command(&self, _host: &GuestHost, _data: &str) -> Vec<String> {
        shell(SCRIPTS[SCRIPT])
    }

    fn start_limit(&self) -> Duration {
        // Only for servers that never become ready.
        Duration::from_secs(if matches!(SCRIPT, SILENT | NEVER_READY) { 2 } else { 120 })
    }

    async fn probe(&self) -> Readiness {
        match std::fs::read_to_string(self.run.join("ready")) {
            Ok(greetings) => Readiness::Ready { version: greetings.lines().count().to_string() },
            Err(_) if self.run.join("later").exists() => Readiness::Starting,
            Err(error) => Readiness::Unreachable(Error::unavailable("no greeting").with_source(error)),
        }
    }
}

fn greeter<const SCRIPT: usize>(fixture: &Fixture) -> Arc<dyn Datastore> {
    ContainerDriver::<Greeter<SCRIPT>>::new().attach(fixture.host.clone()).unwrap()
}

fn shell(script: &str) -> Vec<String> {
    ["sh", "-c", script].map(str::to_owned).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minimal_engine_can_be_prepared_restarted_and_removed() {
    let fixture = Fixture::new(POSTGRESQL_17).await;
    let server = greeter::<READY>(&fixture);
    let spec = Prepare::new(vec![NewDatabase::new("app")], Vec::new());
    assert_eq!(server.prepare(&cx(), &spec).await.unwrap_err().kind(), Kind::Unsupported);
    server.prepare(&cx(), &Prepare::default()).await.unwrap();
    assert!(server.abilities().accounts.is_none());
    assert_eq!(wait_until_healthy(&*server).await.server_version.as_deref(), Some("1"));
    server.stop(&cx()).await.unwrap();
    observe_until(&*server, "stopped", |observed| observed.health == Health::Stopped).await;
    assert!(!fixture.host.directory.join("run/ready").exists(), "the server did not handle SIGTERM");
    server.start(&cx()).await.unwrap();
    assert_eq!(wait_until_healthy(&*server).await.server_version.as_deref(), Some("2"), "the data was lost");
    server.remove(&cx()).await.unwrap();
    assert!(container_ids(fixture.local.scope()).await.is_empty());
    fixture.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_start_reports_the_output_of_the_server() {
    let fixture = Fixture::new(POSTGRESQL_17).await;
    let failing = greeter::<FAILING>(&fixture);
    let error = failing.prepare(&cx(), &Prepare::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "the server does not start: it exited with code 9");
    assert!(error.report().contains("no greeting today"), "{error:?}");
    observe_until(&*failing, "exited", |observed| {
        observed.health.problem().is_some_and(|problem| problem.condition == Condition::Exited)
    })
    .await;
    let silent = greeter::<SILENT>(&fixture);
    assert_eq!(silent.start(&cx()).await.unwrap_err().kind(), Kind::Timeout);
    fixture.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_initialization_leaves_no_container() {
    let fixture = Fixture::new(POSTGRESQL_17).await;
    let server = greeter::<FAILING_INIT>(&fixture);
    let error = server.prepare(&cx(), &Prepare::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "could not initialize the data directory (exit code 7)");
    assert!(error.report().contains("[2Jno words") && !error.report().contains('\u{1b}'), "{error:?}");
    assert!(container_ids(fixture.local.scope()).await.is_empty());
    fixture.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_becomes_ready_is_reported_as_not_answering() {
    let fixture = Fixture::new(POSTGRESQL_17).await;
    let server = greeter::<NEVER_READY>(&fixture);
    assert_eq!(server.prepare(&cx(), &Prepare::default()).await.unwrap_err().kind(), Kind::Timeout);
    observe_until(
        &*server,
        "not answering",
        |observed| matches!(&observed.health, Health::Down(problem) if problem.condition == Condition::NotAnswering),
    )
    .await;
    fixture.remove().await;
}
