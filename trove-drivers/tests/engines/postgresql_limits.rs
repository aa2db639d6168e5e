//! What happens where memory, disk, ports or the Docker Engine run out.

use std::{
    fs,
    net::TcpListener,
    os::unix,
    path::Path,
    sync::{Arc, Mutex},
};

use crate::common::{Fixture, HANG_LIMIT, POSTGRESQL_17, TmpfsMount, app, bollard, cx, driver, eventually};
use tokio::{
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};
use trove_core::{
    datastore::Driver,
    error::Kind,
    model::{Condition, Health, PageRequest},
};
use trove_drivers::{Docker, PostgreSql};

#[tokio::test(flavor = "multi_thread")]
async fn a_full_volume_is_told_before_and_after_the_server_gives_up() {
    let small = TmpfsMount::new(400);
    let inside = tempfile::tempdir_in(small.0.path()).unwrap();
    let fixture = Fixture::at(inside, POSTGRESQL_17).await;
    fixture.server.prepare(&cx(), &app()).await.unwrap();
    fixture.healthy().await;
    let ballast = small.0.path().join("ballast");
    let free = fixture.server.observe(&cx()).await.unwrap().disk.unwrap().free.as_bytes();
    fs::write(&ballast, vec![1; usize::try_from(free - (40 << 20)).unwrap()]).unwrap();
    // It answers, and is impaired nevertheless.
    assert!(matches!(fixture.condition(Condition::DiskFull).await, Health::Impaired(_)));
    fixture.app().await;
    fs::remove_file(&ballast).unwrap();
    fixture.healthy().await;
    fs::write(&ballast, vec![1; usize::try_from(free - (1 << 20)).unwrap()]).unwrap();
    let client = fixture.app().await;
    let filled = client.batch_execute("CREATE TABLE big AS SELECT generate_series(1, 3000000) AS x").await;
    assert!(filled.is_err());
    fixture.condition(Condition::DiskFull).await;
    fs::remove_file(&ballast).unwrap();
    fixture.server.start(&cx()).await.unwrap();
    fixture.healthy().await;
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_killed_for_memory_is_told_while_the_server_recovers() {
    let fixture = Fixture::new(POSTGRESQL_17.memory(128)).await;
    fixture.server.prepare(&cx(), &app()).await.unwrap();
    fixture.healthy().await;
    let client = fixture.app().await;
    let hungry = "SET work_mem = '2GB'; SELECT count(*) FROM (SELECT array_agg(repeat(md5(i::text), 8)) \
                  FROM generate_series(1, 3000000) i) s";
    assert!(client.batch_execute(hungry).await.is_err());
    assert!(matches!(fixture.condition(Condition::OutOfMemory).await, Health::Impaired(_)));
    // The server got over it by itself, without a new container.
    eventually("the server serves again", async || {
        fixture.login("app", "secret", "app").await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    assert!(matches!(fixture.condition(Condition::OutOfMemory).await, Health::Impaired(_)));
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_sessions_as_are_let_in_may_sort_and_join_at_once() {
    let fixture = Fixture::prepared(POSTGRESQL_17).await;
    fixture.healthy().await;
    let made = "CREATE TABLE t AS SELECT i, md5(i::text) AS word FROM generate_series(1, 100000) i; ANALYZE t";
    fixture.app().await.batch_execute(made).await.unwrap();
    let mut sessions = Vec::new();
    // All but those that are kept for the administrator, who has one open besides.
    while sessions.len() < 14 {
        sessions.push(
            eventually("a session is let in", async || {
                fixture.login("app", "secret", "app").await.map_err(|error| error.to_string())
            })
            .await,
        );
    }
    let heavy = "SELECT count(*) FROM (SELECT a.word, count(*), max(b.word) FROM t a JOIN t b ON a.i = b.i \
                 GROUP BY a.word ORDER BY 3, 1) s";
    let asked = sessions.iter().map(|session| session.query_one(heavy, &[]));
    for answer in futures_util::future::join_all(asked).await {
        assert_eq!(answer.unwrap().get::<_, i64>(0), 100_000);
    }
    // The administrator is let in all the same, and no session was killed.
    fixture.server.abilities().accounts.unwrap().user(&cx(), &"app".into()).await.unwrap();
    fixture.healthy().await;
    assert_eq!(crate::common::log(&fixture.container()).await.matches("terminated by signal").count(), 0);
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_was_taken_meanwhile_is_named() {
    let fixture = Fixture::prepared(POSTGRESQL_17).await;
    fixture.server.stop(&cx()).await.unwrap();
    let endpoint = fixture.host.endpoint.clone();
    let taken = eventually("the port is given back", async || {
        TcpListener::bind((endpoint.host.as_str(), endpoint.port)).map_err(|error| error.to_string())
    })
    .await;
    let error = fixture.server.start(&cx()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Busy, "{error:?}");
    assert!(error.to_string().contains(&endpoint.port.to_string()), "{error}");
    drop(taken);
    fixture.server.start(&cx()).await.unwrap();
    fixture.app().await;
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_docker_engine_everything_says_so_and_nothing_hangs() {
    let fixture = Fixture::new(POSTGRESQL_17).await;
    let away = Docker::socket(fixture.directory.path().join("nowhere.sock"));
    let server = PostgreSql::new().docker(away).attach(fixture.host.clone()).unwrap();
    let health = server.observe(&cx()).await.unwrap().health;
    assert!(matches!(&health, Health::Unknown(problem) if problem.condition == Condition::RuntimeUnavailable));
    for done in [server.prepare(&cx(), &app()).await, server.stop(&cx()).await, server.remove(&cx()).await] {
        let error = done.unwrap_err();
        assert_eq!((error.kind(), error.is_transient()), (Kind::Unavailable, true), "{error:?}");
        assert_eq!(error.to_string(), "the Docker daemon does not answer");
    }
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_had_is_named() {
    let fixture = Fixture::new(POSTGRESQL_17).await;
    let mut host = fixture.host.clone();
    host.image = "localhost:1/no/such:1".to_owned();
    let server = driver().attach(host).unwrap();
    let error = server.prepare(&cx(), &app()).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Unavailable | Kind::NotFound), "{error:?}");
    assert!(error.to_string().contains("localhost:1/no/such:1"), "{error}");
    drop(server);
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_docker_engine_that_goes_away_and_comes_back_is_told_and_found_again() {
    let fixture = Fixture::prepared(POSTGRESQL_17).await;
    let socket = fixture.directory.path().join("docker.sock");
    let server = PostgreSql::new().docker(Docker::socket(&socket)).attach(fixture.host.clone()).unwrap();
    let health = async || server.observe(&cx()).await.unwrap().health;
    let unknown = |health: &Health| matches!(health, Health::Unknown(problem) if problem.condition == Condition::RuntimeUnavailable);
    assert!(unknown(&health().await));

    let relay = Relay::new(&socket);
    assert_eq!(health().await, Health::Healthy);
    let waiter = PostgreSql::new().docker(Docker::socket(&socket)).attach(fixture.host.clone()).unwrap();
    let woken = tokio::spawn(async move { waiter.changed().await });
    eventually(
        "the stream of events is open",
        async || {
            if relay.connections() > 0 { Ok(()) } else { Err("closed".to_owned()) }
        },
    )
    .await;
    drop(relay);
    tokio::time::timeout(HANG_LIMIT, woken).await.expect("the loss wakes the waiter").unwrap();
    assert!(unknown(&health().await));

    // One that accepts requests and never answers.
    fs::remove_file(&socket).unwrap();
    let hanging = unix::net::UnixListener::bind(&socket).unwrap();
    let health_of_hanging = tokio::time::timeout(HANG_LIMIT, health()).await.expect("the observation hangs");
    assert!(unknown(&health_of_hanging));
    drop(hanging);
    fs::remove_file(&socket).unwrap();
    let _relay = Relay::new(&socket);
    assert_eq!(health().await, Health::Healthy);
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_cannot_lead_its_administrator_to_another_server() {
    let (hostile, victim) = (Fixture::prepared(POSTGRESQL_17).await, Fixture::prepared(POSTGRESQL_17).await);
    let accounts = hostile.server.abilities().accounts.unwrap();
    let (own, other) = [&hostile, &victim].map(|it| it.host.directory.join("run/.s.PGSQL.5432")).into();
    let victims = bollard().await.inspect_container(&victim.container(), None).await.unwrap();
    let seen = format!("/proc/{}/root/run/trove/.s.PGSQL.5432", victims.state.unwrap().pid.unwrap());
    fs::rename(&own, own.with_extension("away")).unwrap();
    for target in [Path::new(&seen), &other] {
        unix::fs::symlink(target, &own).unwrap();
        assert!(fs::metadata(&own).is_ok(), "the link leads somewhere");
        // Nothing is kept of the time before.
        let fresh = hostile.reattached();
        assert_ne!(fresh.observe(&cx()).await.unwrap().health, Health::Healthy);
        let fresh = fresh.abilities().accounts.unwrap();
        assert_eq!(fresh.users(&cx(), &PageRequest::default()).await.unwrap_err().kind(), Kind::Unavailable);
        assert!(accounts.drop_user(&cx(), &"app".into()).await.is_err());
        fs::remove_file(&own).unwrap();
    }
    // Nor does a socket of the right place that somebody else listens at.
    let foreign = UnixListener::bind(&own).unwrap();
    assert!(accounts.drop_user(&cx(), &"app".into()).await.is_err());
    unix::fs::chown(&own, Some(hostile.host.server.uid), None).unwrap();
    assert!(accounts.drop_user(&cx(), &"app".into()).await.is_err());
    drop(foreign);
    fs::remove_file(&own).unwrap();
    fs::rename(own.with_extension("away"), &own).unwrap();
    victim.app().await;
    accounts.drop_user(&cx(), &"app".into()).await.unwrap();
    assert!(victim.server.abilities().accounts.unwrap().user(&cx(), &"app".into()).await.is_ok());
    victim.removed().await;
    hostile.removed().await;
}

/// Passes connections on to the real Docker Engine until it is dropped.
struct Relay {
    accepting: JoinHandle<()>,
    open: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Relay {
    fn new(socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let open = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&open);
        let accepting = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let passed = tokio::spawn(async move {
                    let mut far = UnixStream::connect("/var/run/docker.sock").await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
                kept.lock().unwrap().push(passed);
            }
        });
        Self { accepting, open }
    }

    fn connections(&self) -> usize {
        self.open.lock().unwrap().iter().filter(|passed| !passed.is_finished()).count()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
        self.open.lock().unwrap().iter().for_each(JoinHandle::abort);
    }
}
