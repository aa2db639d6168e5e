//! The life of a PostgreSQL server, from nothing to nothing, and what is told of it.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    sync::{Arc, Mutex},
};

use crate::common::{
    Fixture, POSTGRESQL_15, POSTGRESQL_17, POSTGRESQL_18, Subject, app, bollard, containers, cx, eventually,
    file_names, place,
};
use bollard::query_parameters::KillContainerOptions;
use tokio_util::sync::CancellationToken;
use trove_core::{
    datastore::Driver,
    error::Kind,
    id::InstanceId,
    model::{Condition, Health},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_lives_from_nothing_to_nothing() {
    for subject in [POSTGRESQL_17, POSTGRESQL_15, POSTGRESQL_18] {
        live(subject).await;
    }
}

async fn live(subject: Subject) {
    let fixture = Fixture::new(subject).await;
    let phases = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&phases);
    let cx_told = cx().with_progress(Arc::new(move |progress| seen.lock().unwrap().push(progress.phase)));
    let before = fixture.reattached().observe(&cx()).await.unwrap();
    assert_eq!(before.health.problem().unwrap().condition, Condition::DataMissing);
    fixture.server.prepare(&cx_told, &app()).await.unwrap();
    let mut told = phases.lock().unwrap().clone();
    // What takes long is told again and again.
    told.dedup();
    let begun = ["initialize data directory", "start server", "open server", "create databases and users"];
    assert_eq!(told[..begun.len()], begun);

    let client = fixture.app().await;
    client.batch_execute("CREATE TABLE t (x int); INSERT INTO t SELECT generate_series(1, 1000)").await.unwrap();
    let observed = fixture.server.observe(&cx()).await.unwrap();
    assert_eq!(observed.health, Health::Healthy);
    assert!(observed.server_version.unwrap().starts_with(&format!("{}.", subject.version)));
    assert!(observed.disk.unwrap().free.as_mib() > 64);
    eventually("the use of the disk is measured", async || {
        let used = fixture.server.observe(&cx()).await.unwrap().disk.unwrap().used;
        used.filter(|used| used.as_mib() > 20).ok_or(format!("{used:?}"))
    })
    .await;

    fixture.server.stop(&cx()).await.unwrap();
    fixture.server.stop(&cx()).await.unwrap();
    assert_eq!(fixture.server.observe(&cx()).await.unwrap().health, Health::Stopped);
    assert_eq!(fixture.reattached().observe(&cx()).await.unwrap().health, Health::Stopped);
    assert!(containers(fixture.local.scope()).await.is_empty());

    fixture.server.start(&cx()).await.unwrap();
    fixture.server.start(&cx()).await.unwrap();
    let rows = fixture.app().await.query_one("SELECT count(*) FROM t", &[]).await.unwrap();
    assert_eq!(rows.get::<_, i64>(0), 1000);
    fixture.healthy().await;
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_a_server_is_told() {
    let fixture = Fixture::prepared(POSTGRESQL_17).await;
    let (docker, name) = (bollard().await, fixture.container());

    let changed = fixture.reattached();
    let woken = tokio::spawn(async move { changed.changed().await });
    docker.pause_container(&name).await.unwrap();
    assert!(matches!(fixture.condition(Condition::Paused).await, Health::Down(_)));
    // The stream of events may have begun after the pause.
    eventually("an event wakes the waiter", async || {
        docker.unpause_container(&name).await.unwrap();
        docker.pause_container(&name).await.unwrap();
        if woken.is_finished() { Ok(()) } else { Err("asleep".to_owned()) }
    })
    .await;
    fixture.server.start(&cx()).await.unwrap();
    fixture.healthy().await;

    let signal = |signal: &str| Some(KillContainerOptions { signal: signal.to_owned() });
    docker.kill_container(&name, signal("STOP")).await.unwrap();
    assert!(matches!(fixture.condition(Condition::NotAnswering).await, Health::Down(_)));
    fixture.server.start(&cx()).await.unwrap();
    fixture.healthy().await;

    docker.kill_container(&name, signal("KILL")).await.unwrap();
    assert!(matches!(fixture.condition(Condition::Killed).await, Health::Down(_)));
    fixture.server.start(&cx()).await.unwrap();
    fixture.healthy().await;

    docker.stop_container(&name, None).await.unwrap();
    assert!(matches!(fixture.condition(Condition::Exited).await, Health::Down(_)));
    docker.remove_container(&name, None).await.unwrap();
    assert!(matches!(fixture.condition(Condition::Removed).await, Health::Down(_)));
    fixture.server.start(&cx()).await.unwrap();
    fixture.healthy().await;
    fixture.app().await;

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
    assert!(matches!(fixture.condition(Condition::Exited).await, Health::Down(_)));
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_told_to_stop_is_not_taken_for_one_that_serves() {
    let fixture = Fixture::prepared(POSTGRESQL_17).await;
    let docker = bollard().await;
    let running = async || docker.inspect_container(&fixture.container(), None).await.unwrap().id;
    let before = running().await;
    let (stopped, noted) = (fixture.reattached(), fixture.host.directory.join("leaving.json"));
    let stop = tokio::spawn(async move { stopped.stop(&cx()).await });
    eventually("the stop is noted, or over", async || {
        (noted.exists() || stop.is_finished()).then_some(()).ok_or("not yet".to_owned())
    })
    .await;
    stop.abort();
    fixture.reattached().start(&cx()).await.unwrap();
    assert_ne!(running().await, before);
    fixture.healthy().await;
    fixture.app().await;
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn preparing_is_repeatable_from_every_half_done_state() {
    let fixture = Fixture::new(POSTGRESQL_17).await;
    let volume = fixture.host.volume.clone();
    // An initialisation that was killed left half a directory, and its helper in a container.
    fs::create_dir(volume.join("pgdata.new")).unwrap();
    fs::write(volume.join("pgdata.new/PG_VERSION"), "17\n").unwrap();
    let given_up = CancellationToken::new();
    given_up.cancel();
    let error = fixture.server.prepare(&cx().with_cancel(given_up), &app()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Cancelled);
    for _ in 0..2 {
        // Dropped at some line: what was asked of the daemon still happens, and the next attempt copes.
        let attempt = fixture.server.prepare(&cx(), &app()).await;
        attempt.unwrap();
        assert_eq!(file_names(&volume), ["pgdata"]);
    }
    fixture.app().await.batch_execute("CREATE TABLE kept (x int)").await.unwrap();
    let other = fixture.reattached();
    other.prepare(&cx(), &app()).await.unwrap();
    fixture.app().await.batch_execute("SELECT * FROM kept").await.unwrap();
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_confined_and_show_no_secret() {
    let fixture = Fixture::prepared(POSTGRESQL_17).await;
    let docker = bollard().await;
    let found = docker.inspect_container(&fixture.container(), None).await.unwrap();
    let text = serde_json::to_string(&found).unwrap();
    assert!(!text.contains("secret"), "{text}");
    let (host, config) = (found.host_config.unwrap(), found.config.unwrap());
    assert_eq!((host.memory, host.memory_swap), (Some(256 << 20), Some(256 << 20)));
    assert_eq!((host.nano_cpus, host.readonly_rootfs), (Some(1_000_000_000), Some(true)));
    assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
    assert_eq!(host.security_opt.unwrap(), ["no-new-privileges:true"]);
    assert!(host.pids_limit.unwrap() > 0);
    assert!(host.tmpfs.unwrap()["/tmp"].ends_with(",size=16m"));
    assert_eq!(host.log_config.unwrap().typ.unwrap(), "local");
    let server = fixture.host.server;
    assert_eq!(config.user.unwrap(), format!("{}:{}", server.uid, server.gid));
    let labels = config.labels.unwrap();
    for (label, value) in [
        ("instance", fixture.id.to_string().as_str()),
        ("project", "acme"),
        ("datastore", "postgresql"),
        ("version", "17"),
        ("role", "server"),
        ("scope", fixture.local.scope()),
    ] {
        assert_eq!(labels.get(&format!("io.trove.{label}")).map(String::as_str), Some(value));
    }
    let ports = found.network_settings.unwrap().ports.unwrap();
    assert_eq!(ports["5432/tcp"].as_ref().unwrap()[0].host_ip.as_deref(), Some("127.0.0.1"));

    let volume = fs::metadata(&fixture.host.volume).unwrap();
    assert_eq!((volume.uid(), volume.mode() & 0o777), (server.uid, 0o700));
    // The administrator is let in neither by the network nor with any password.
    for user in ["trove_admin", "postgres", "server"] {
        assert!(fixture.login(user, "secret", "postgres").await.is_err());
    }
    // The server that listens is another instance's neighbour on the network, and cannot be reached by it.
    let neighbour = place(&fixture.local, InstanceId::new_v4(), POSTGRESQL_17).await;
    let other = crate::common::driver().attach(neighbour.clone()).unwrap();
    other.prepare(&cx(), &app()).await.unwrap();
    assert_ne!(neighbour.endpoint, fixture.host.endpoint);
    assert_ne!(neighbour.server, fixture.host.server);
    let address = docker.inspect_container(&fixture.container(), None).await.unwrap();
    let address = address.network_settings.unwrap().networks.unwrap().into_values().next().unwrap().ip_address.unwrap();
    let reach = format!("exec 3<>/dev/tcp/{address}/5432");
    assert!(!exec_ok(&neighbour.name, &["timeout", "2", "bash", "-c", &reach]).await);
    assert!(exec_ok(&fixture.container(), &["timeout", "2", "bash", "-c", &reach]).await);
}

async fn exec_ok(container: &str, command: &[&str]) -> bool {
    use bollard::exec::StartExecResults;
    use futures_util::StreamExt;
    let docker = bollard().await;
    let config = bollard::models::ExecConfig {
        cmd: Some(command.iter().map(|word| (*word).to_owned()).collect()),
        attach_stdout: Some(true),
        ..Default::default()
    };
    let exec = docker.create_exec(container, config).await.unwrap();
    if let StartExecResults::Attached { mut output, .. } = docker.start_exec(&exec.id, None).await.unwrap() {
        while output.next().await.is_some() {}
    }
    docker.inspect_exec(&exec.id).await.unwrap().exit_code == Some(0)
}
