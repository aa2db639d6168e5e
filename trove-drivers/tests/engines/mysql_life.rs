//! The life of MySQL and MariaDB servers, from nothing to nothing.

use std::fs;

use crate::common::{
    Fixture, MARIADB_10_11, MARIADB_11_8, MYSQL_9_7, Subject, TmpfsMount, app, bollard, cx, eventually, file_names,
    is_quick_tier, mysql,
};
use bollard::query_parameters::KillContainerOptions;
use mysql_async::{Conn, prelude::Queryable};
use tokio_util::sync::CancellationToken;
use trove_core::{
    error::Kind,
    model::{Condition, Health},
};

async fn client(fixture: &Fixture) -> Conn {
    // The server may not have noticed yet that others have gone.
    eventually("a session is let in", async || {
        mysql::login(&fixture.host.endpoint, "app", "secret", "app").await.map_err(|error| error.to_string())
    })
    .await
}

async fn rows(fixture: &Fixture) -> u64 {
    client(fixture).await.query_first("SELECT count(*) FROM t").await.unwrap().unwrap()
}

/// As many sessions as are let in, all at work at once.
async fn sessions_at_work_fit_into_the_memory(fixture: &Fixture) {
    let mut sessions = vec![client(fixture).await];
    let many = "CREATE TABLE many (PRIMARY KEY (i)) AS WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 1000) \
                SELECT a.i * 1000 + b.i AS i, SHA2(a.i * 1000 + b.i, 256) AS word FROM n a JOIN n b ON b.i <= 10";
    sessions[0].query_drop(many).await.unwrap();
    while let Ok(session) = mysql::login(&fixture.host.endpoint, "app", "secret", "app").await {
        sessions.push(session);
    }
    assert!(sessions.len() >= 18, "{}", sessions.len());
    // The administrator is let in all the same.
    fixture.healthy().await;
    fixture.server.abilities().accounts.unwrap().user(&cx(), &"app".into()).await.unwrap();
    let heavy = "SELECT count(*) FROM (SELECT a.word, count(*) AS n, max(b.word) AS m FROM many a JOIN many b \
                 ON a.i = b.i GROUP BY a.word ORDER BY m, n) s";
    let asked = sessions.iter_mut().map(|session| session.query_first::<u64, _>(heavy));
    for answer in futures_util::future::join_all(asked).await {
        assert_eq!(answer.unwrap(), Some(10_000));
    }
    fixture.healthy().await;
}

async fn a_server_lives_from_nothing_to_nothing(subject: Subject) {
    let fixture = Fixture::new(subject).await;
    let volume = fixture.host.volume.clone();
    // An initialisation that was killed left half a directory.
    fs::create_dir(volume.join("data.new")).unwrap();
    fs::write(volume.join("data.new/ibdata1"), "half").unwrap();
    let given_up = CancellationToken::new();
    given_up.cancel();
    let error = fixture.server.prepare(&cx().with_cancel(given_up), &app()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Cancelled);
    for _ in 0..2 {
        fixture.server.prepare(&cx(), &app()).await.unwrap();
        assert_eq!(file_names(&volume), ["data"]);
    }
    let observed = fixture.server.observe(&cx()).await.unwrap();
    assert_eq!(observed.health, Health::Healthy);
    let version = observed.server_version.unwrap();
    assert!(version.starts_with(&format!("{}.", subject.version)), "{version}");
    for (user, password) in [("trove_admin", ""), ("trove_admin", "secret"), ("root", ""), ("server", ""), ("", "")] {
        assert!(mysql::login(&fixture.host.endpoint, user, password, "").await.is_err(), "{user}");
    }
    sessions_at_work_fit_into_the_memory(&fixture).await;
    client(&fixture).await.query_drop("CREATE TABLE t (x int) SELECT 1 AS x UNION SELECT 2").await.unwrap();

    fixture.server.stop(&cx()).await.unwrap();
    assert_eq!(fixture.server.observe(&cx()).await.unwrap().health, Health::Stopped);
    fixture.server.start(&cx()).await.unwrap();
    fixture.healthy().await;
    assert_eq!(rows(&fixture).await, 2);

    // What was committed when it was killed is there when it is back.
    client(&fixture).await.query_drop("INSERT INTO t VALUES (3)").await.unwrap();
    let kill = KillContainerOptions { signal: "KILL".to_owned() };
    bollard().await.kill_container(&fixture.container(), Some(kill)).await.unwrap();
    assert!(matches!(fixture.condition(Condition::Killed).await, Health::Down(_)));
    fixture.server.start(&cx()).await.unwrap();
    fixture.healthy().await;
    client(&fixture).await.query_drop("INSERT INTO t VALUES (4)").await.unwrap();
    assert_eq!(rows(&fixture).await, 4);
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mysql_server_lives_from_nothing_to_nothing() {
    a_server_lives_from_nothing_to_nothing(MYSQL_9_7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mariadb_server_lives_from_nothing_to_nothing() {
    a_server_lives_from_nothing_to_nothing(MARIADB_11_8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mariadb_server_of_the_series_before_lives_from_nothing_to_nothing() {
    if is_quick_tier() {
        return;
    }
    a_server_lives_from_nothing_to_nothing(MARIADB_10_11).await;
}

/// Only what nobody needs any more is dropped: the row that was written first is there.
async fn old_logs_make_room_on_a_volume_that_is_nearly_full(subject: Subject) {
    let small = TmpfsMount::new(1200);
    let inside = tempfile::tempdir_in(small.0.path()).unwrap();
    // What is written to this file system counts as memory of the server.
    let fixture = Fixture::at(inside, subject.memory(1024)).await;
    fixture.server.prepare(&cx(), &app()).await.unwrap();
    let logs = || {
        let names = file_names(&fixture.host.volume.join("data"));
        names.into_iter().filter(|name| name.starts_with("binlog.0")).count()
    };
    let free = async || fixture.server.observe(&cx()).await.unwrap().disk.unwrap().free.as_bytes();
    let mut client = client(&fixture).await;
    for sql in ["CREATE TABLE t (a int)", "INSERT INTO t VALUES (1)", "CREATE TABLE filler (b longblob)"] {
        client.query_drop(sql).await.unwrap();
    }
    while logs() < 4 {
        client.query_drop("INSERT INTO filler VALUES (REPEAT('x', 6 << 20))").await.unwrap();
        client.query_drop("TRUNCATE filler").await.unwrap();
    }
    fixture.healthy().await;
    assert!(logs() >= 4, "they are kept while there is room");
    let ballast = usize::try_from(free().await - (100 << 20)).unwrap();
    fs::write(small.0.path().join("ballast"), vec![1; ballast]).unwrap();
    eventually("old logs are dropped", async || {
        fixture.healthy().await;
        if logs() <= 2 { Ok(()) } else { Err(format!("{} are kept", logs())) }
    })
    .await;
    assert_eq!(rows(&fixture).await, 1);
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mysql_server_drops_old_logs_in_time() {
    old_logs_make_room_on_a_volume_that_is_nearly_full(MYSQL_9_7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mariadb_server_drops_old_logs_in_time() {
    old_logs_make_room_on_a_volume_that_is_nearly_full(MARIADB_10_11).await;
}
