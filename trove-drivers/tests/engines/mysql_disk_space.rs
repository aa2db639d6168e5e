//! Binary logs of MySQL and MariaDB servers, which are purged when space runs out.

use std::fs;

use crate::common::{
    EngineVersion, Fixture, MARIADB_10_11, MYSQL_9_7, TmpfsMount, app_spec, cx, eventually, file_names,
};

#[tokio::test(flavor = "multi_thread")]
async fn mysql_binary_logs_are_purged_on_a_nearly_full_volume() {
    binary_logs_are_purged_on_a_nearly_full_volume(MYSQL_9_7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_binary_logs_are_purged_on_a_nearly_full_volume() {
    binary_logs_are_purged_on_a_nearly_full_volume(MARIADB_10_11).await;
}

async fn binary_logs_are_purged_on_a_nearly_full_volume(engine: EngineVersion) {
    let small = TmpfsMount::new(1200);
    let inside = tempfile::tempdir_in(small.0.path()).unwrap();
    // The pages of a tmpfs count as memory of the server that writes them.
    let fixture = Fixture::in_directory(inside, engine.memory(1024)).await;
    fixture.server.prepare(&cx(), &app_spec()).await.unwrap();
    let logs = || {
        let names = file_names(&fixture.host.volume.join("data"));
        names.into_iter().filter(|name| name.starts_with("binlog.0")).count()
    };
    let mut client = fixture.client("app", "secret", "app").await.unwrap();
    for sql in ["CREATE TABLE t (a int)", "INSERT INTO t VALUES (1)", "CREATE TABLE filler (b longblob)"] {
        client.run(sql).await.unwrap();
    }
    while logs() < 4 {
        client.run("INSERT INTO filler VALUES (REPEAT('x', 6 << 20))").await.unwrap();
        client.run("TRUNCATE filler").await.unwrap();
    }
    fixture.wait_until_healthy().await;
    assert!(logs() >= 4, "logs were purged although there was space");
    let free = fixture.server.observe(&cx()).await.unwrap().disk.unwrap().free.as_bytes();
    fs::write(small.0.path().join("ballast"), vec![1; usize::try_from(free - (100 << 20)).unwrap()]).unwrap();
    eventually("old logs are purged", async || {
        fixture.wait_until_healthy().await;
        if logs() <= 2 { Ok(()) } else { Err(format!("{} logs", logs())) }
    })
    .await;
    assert_eq!(client.text("SELECT CAST(count(*) AS CHAR) FROM t").await.unwrap(), "1");
    fixture.remove().await;
}
