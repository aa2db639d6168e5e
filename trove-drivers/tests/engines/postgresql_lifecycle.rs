//! How the driver prepares a PostgreSQL server, and how it reports what happens to it.

use std::{
    fs,
    sync::{Arc, Mutex},
};

use crate::common::{
    Fixture, POSTGRESQL_17, app_spec, container_ids, cx, docker_client, eventually, file_names, observe_until, pause,
};
use bollard::query_parameters::KillContainerOptions;
use trove_core::{
    error::Kind,
    model::{Condition, Health},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_prepared_on_a_volume_with_a_half_initialized_directory() {
    let fixture = Fixture::new(POSTGRESQL_17).await;
    let volume = fixture.host.volume.clone();
    fs::create_dir(volume.join("pgdata.new")).unwrap();
    fs::write(volume.join("pgdata.new/PG_VERSION"), "17\n").unwrap();
    let phases = Arc::new(Mutex::new(Vec::new()));
    let reported = Arc::clone(&phases);
    let cx_with_progress = cx().with_progress(Arc::new(move |progress| reported.lock().unwrap().push(progress.phase)));
    fixture.server.prepare(&cx_with_progress, &app_spec()).await.unwrap();
    assert_eq!(file_names(&volume), ["pgdata"]);
    let mut reported = phases.lock().unwrap().clone();
    // A phase that takes long is reported repeatedly.
    reported.dedup();
    let expected = ["initialize data directory", "start server", "open server", "create databases and users"];
    assert_eq!(reported[..expected.len()], expected);

    observe_until(&*fixture.server, "the disk usage is measured", |observed| {
        observed.disk.is_some_and(|disk| disk.free.as_mib() > 64 && disk.used.is_some_and(|used| used.as_mib() > 20))
    })
    .await;
    fixture.server.stop(&cx()).await.unwrap();
    assert!(container_ids(fixture.local.scope()).await.is_empty());
    fixture.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn container_events_and_damaged_data_are_reported() {
    let fixture = Fixture::prepared(POSTGRESQL_17).await;
    let (docker, name) = (docker_client().await, fixture.container());

    let watched = fixture.reattach();
    let change = tokio::spawn(async move { watched.changed().await });
    pause(&name).await;
    assert!(matches!(fixture.wait_for_condition(Condition::Paused).await, Health::Down(_)));
    // The pause may have preceded the event stream.
    eventually("an event ends the wait", async || {
        docker.unpause_container(&name).await.unwrap();
        pause(&name).await;
        if change.is_finished() { Ok(()) } else { Err("waiting".to_owned()) }
    })
    .await;
    fixture.server.start(&cx()).await.unwrap();
    fixture.wait_until_healthy().await;

    let signal = Some(KillContainerOptions { signal: "STOP".to_owned() });
    docker.kill_container(&name, signal).await.unwrap();
    assert!(matches!(fixture.wait_for_condition(Condition::NotAnswering).await, Health::Down(_)));
    fixture.server.start(&cx()).await.unwrap();
    fixture.wait_until_healthy().await;
    docker.stop_container(&name, None).await.unwrap();
    assert!(matches!(fixture.wait_for_condition(Condition::Exited).await, Health::Down(_)));

    let data = fixture.host.volume.join("pgdata");
    fixture.server.stop(&cx()).await.unwrap();
    fs::rename(&data, fixture.host.volume.join("elsewhere")).unwrap();
    let error = fixture.server.start(&cx()).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Corrupt, "the data directory is missing"));
    assert!(!data.exists());
    fs::rename(fixture.host.volume.join("elsewhere"), &data).unwrap();
    fs::write(data.join("PG_VERSION"), "16\n").unwrap();
    let error = fixture.server.start(&cx()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.to_string().contains("PostgreSQL 16"), "{error}");
    fs::write(data.join("PG_VERSION"), "17\n").unwrap();
    fs::write(data.join("global/pg_control"), "broken").unwrap();
    let error = fixture.server.start(&cx()).await.unwrap_err();
    assert!(error.to_string().contains("does not start"), "{error}");
    assert!(error.report().contains("pg_control"), "{error:?}");
    assert!(matches!(fixture.wait_for_condition(Condition::Exited).await, Health::Down(_)));
    fixture.remove().await;
}
