//! Servers that run out of disk space or memory, and calls without a Docker Engine.

use std::fs;

use crate::common::{Fixture, POSTGRESQL_17, TmpfsMount, app_spec, cx, docker_client, eventually};
use trove_core::{
    datastore::Driver,
    error::Kind,
    model::{Condition, Health},
};
use trove_drivers::{Docker, PostgreSql};

#[tokio::test(flavor = "multi_thread")]
async fn a_full_volume_is_reported_before_and_after_the_server_fails() {
    let small = TmpfsMount::new(400);
    let inside = tempfile::tempdir_in(small.0.path()).unwrap();
    let fixture = Fixture::in_directory(inside, POSTGRESQL_17).await;
    fixture.server.prepare(&cx(), &app_spec()).await.unwrap();
    fixture.wait_until_healthy().await;
    let ballast = small.0.path().join("ballast");
    let free = fixture.server.observe(&cx()).await.unwrap().disk.unwrap().free.as_bytes();
    fs::write(&ballast, vec![1; usize::try_from(free - (40 << 20)).unwrap()]).unwrap();
    assert!(matches!(fixture.wait_for_condition(Condition::DiskFull).await, Health::Impaired(_)));
    fixture.app().await;
    fs::remove_file(&ballast).unwrap();
    fixture.wait_until_healthy().await;
    fs::write(&ballast, vec![1; usize::try_from(free - (1 << 20)).unwrap()]).unwrap();
    let client = fixture.app().await;
    let insert = client.batch_execute("CREATE TABLE big AS SELECT generate_series(1, 3000000) AS x").await;
    assert!(insert.is_err());
    fixture.wait_for_condition(Condition::DiskFull).await;
    fs::remove_file(&ballast).unwrap();
    fixture.server.start(&cx()).await.unwrap();
    fixture.wait_until_healthy().await;
    fixture.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_killed_for_memory_is_reported_and_the_server_recovers() {
    let fixture = Fixture::new(POSTGRESQL_17.memory(128)).await;
    fixture.server.prepare(&cx(), &app_spec()).await.unwrap();
    fixture.wait_until_healthy().await;
    let docker = docker_client().await;
    let container_id = async || docker.inspect_container(&fixture.container(), None).await.unwrap().id;
    let before = container_id().await;
    let client = fixture.app().await;
    let query = "SET work_mem = '2GB'; SELECT count(*) FROM (SELECT array_agg(repeat(md5(i::text), 8)) \
                 FROM generate_series(1, 3000000) i) s";
    assert!(client.batch_execute(query).await.is_err());
    assert!(matches!(fixture.wait_for_condition(Condition::OutOfMemory).await, Health::Impaired(_)));
    eventually("login", async || {
        fixture.login("app", "secret", "app").await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    assert_eq!(container_id().await, before, "the server did not recover by itself");
    fixture.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_without_a_docker_engine_are_unavailable() {
    let fixture = Fixture::new(POSTGRESQL_17).await;
    let absent = Docker::socket(fixture.directory.path().join("nowhere.sock"));
    let server = PostgreSql::new().docker(absent).attach(fixture.host.clone()).unwrap();
    let health = server.observe(&cx()).await.unwrap().health;
    assert!(matches!(&health, Health::Unknown(problem) if problem.condition == Condition::RuntimeUnavailable));
    for result in [server.prepare(&cx(), &app_spec()).await, server.stop(&cx()).await, server.remove(&cx()).await] {
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.is_transient()), (Kind::Unavailable, true), "{error:?}");
        assert_eq!(error.to_string(), "the Docker daemon does not answer");
    }
    fixture.remove().await;
}
