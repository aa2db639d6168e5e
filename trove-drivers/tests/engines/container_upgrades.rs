//! How the container datastore upgrades and resizes servers, checks images and uses templates, on
//! the scripted engine.

use std::{fs, path::Path, sync::Arc};

use crate::common::{Fixture, POSTGRESQL_17, container_ids, cx, docker_client, file_names, wait_until_healthy};
use crate::scripted::{Images, Server, attach, attach_at, content, host, settings};
use tokio::sync::Notify;
use trove_core::{
    datastore::{GuestHost, Prepare, Release},
    error::Kind,
    model::{Flavor, Progress, mib},
};

/// Returns the version of a healthy server.
async fn version(server: &Server) -> Option<String> {
    wait_until_healthy(&**server).await.server_version
}

/// Drops an upgrade when it reports a phase.
async fn interrupt_upgrade(server: &Server, to: &Release, phase: &'static str) {
    let reached = Arc::new(Notify::new());
    let reporter = Arc::clone(&reached);
    let sink = Arc::new(move |progress: Progress| {
        if progress.phase == phase {
            reporter.notify_one();
        }
    });
    let cx = cx().with_progress(sink);
    tokio::select! {
        biased;
        () = reached.notified() => {}
        result = server.abilities().upgrade.unwrap().upgrade(&cx, to) => panic!("did not report {phase}: {result:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_migrates_the_data_and_its_commit_is_final() {
    let (mut images, fixture) = (Images::new(), Fixture::new(POSTGRESQL_17).await);
    let image = images.scripted("1.5", &[]).await;
    let newer = Release::new("2", images.scripted("2.1", &[]).await);
    let server = attach(&fixture, &image);
    server.prepare(&cx(), &Prepare::default()).await.unwrap();
    let upgrade = server.abilities().upgrade.unwrap();
    upgrade.check(&cx(), &newer).await.unwrap();
    assert_eq!(version(&server).await.as_deref(), Some("1.5"));
    for _ in 0..2 {
        upgrade.upgrade(&cx(), &newer).await.unwrap();
        assert_eq!(version(&server).await.as_deref(), Some("2.1"));
    }
    assert_eq!(file_names(&fixture.host.volume), ["data", "data.before"]);
    // A datastore attached with the old release does not start on the new data.
    let error = attach_at(&host(&fixture, &image)).start(&cx()).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().contains("version 2")), (Kind::Conflict, true), "{error}");
    for _ in 0..2 {
        upgrade.commit(&cx()).await.unwrap();
    }
    assert_eq!(file_names(&fixture.host.volume), ["data"]);
    assert_eq!(fs::read_to_string(fixture.host.volume.join("data/migrated")).unwrap(), "2.1\n");
    // The control plane crashed before it recorded the release: a datastore with the old one adopts the new.
    let server = attach_at(&host(&fixture, &image));
    let upgrade = server.abilities().upgrade.unwrap();
    let error = upgrade.revert(&cx(), &Release::new("1", image.clone())).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "{error:?}");
    server.stop(&cx()).await.unwrap();
    server.start(&cx()).await.unwrap();
    assert_eq!(version(&server).await.as_deref(), Some("2.1"));

    let patch = Release::new("2.2", images.scripted("2.2.0", &[]).await);
    upgrade.upgrade(&cx(), &patch).await.unwrap();
    assert_eq!(file_names(&fixture.host.volume), ["data"], "a compatible upgrade copied the data");
    upgrade.commit(&cx()).await.unwrap();
    let error = upgrade.check(&cx(), &Release::new("1", image)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert_eq!(version(&server).await.as_deref(), Some("2.2.0"));
    fixture.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_damages_the_data_can_be_reverted() {
    let (mut images, fixture) = (Images::new(), Fixture::new(POSTGRESQL_17).await);
    let image = images.scripted("1.5", &[]).await;
    let broken = Release::new("2", images.scripted("2.1", &["SCRIPTED_BREAKS=1"]).await);
    let (old, host) = (Release::new("1", image.clone()), host(&fixture, &image));
    let server = attach_at(&host);
    server.prepare(&cx(), &Prepare::default()).await.unwrap();
    fs::write(host.volume.join("data/content"), "mine\n").unwrap();
    let upgrade = server.abilities().upgrade.unwrap();
    let error = upgrade.upgrade(&cx(), &broken).await.unwrap_err();
    assert_eq!(error.to_string(), "the server does not start: it exited with code 5");
    assert_eq!(content(&host), "corrupt\n");
    for _ in 0..2 {
        upgrade.revert(&cx(), &old).await.unwrap();
        assert_eq!((content(&host).as_str(), version(&server).await.as_deref()), ("mine\n", Some("1.5")));
    }
    assert_eq!(file_names(&host.volume), ["data"]);
    assert_eq!(attach_at(&host).start(&cx()).await.map_err(|error| error.kind()), Ok(()));
    fixture.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_upgrade_can_be_reverted_or_repeated() {
    let (mut images, fixture) = (Images::new(), Fixture::new(POSTGRESQL_17).await);
    let image = images.scripted("1.5", &[]).await;
    let newer = Release::new("2", images.scripted("2.1", &[]).await);
    let (old, host) = (Release::new("1", image.clone()), host(&fixture, &image));
    attach_at(&host).prepare(&cx(), &Prepare::default()).await.unwrap();
    for phase in ["stop server", "copy data", "start server", "migrate data"] {
        interrupt_upgrade(&attach_at(&host), &newer, phase).await;
        let server = attach_at(&host);
        server.abilities().upgrade.unwrap().revert(&cx(), &old).await.unwrap();
        assert_eq!((content(&host).as_str(), version(&server).await.as_deref()), ("hello\n", Some("1.5")), "{phase}");
        assert_eq!(file_names(&host.volume), ["data"], "{phase}");
    }
    attach_at(&host).abilities().upgrade.unwrap().upgrade(&cx(), &newer).await.unwrap();
    // A revert was interrupted after it moved the new data away, and before it moved the old data back.
    fs::rename(host.volume.join("data"), host.volume.join("data.after")).unwrap();
    let server = attach_at(&host);
    assert_eq!(server.start(&cx()).await.unwrap_err().kind(), Kind::Conflict);
    server.abilities().upgrade.unwrap().revert(&cx(), &old).await.unwrap();
    assert_eq!((content(&host).as_str(), version(&server).await.as_deref()), ("hello\n", Some("1.5")));
    assert_eq!(file_names(&host.volume), ["data"]);

    for phase in ["stop server", "copy data", "start server", "migrate data"] {
        interrupt_upgrade(&attach_at(&host), &newer, phase).await;
    }
    let server = attach_at(&host);
    server.abilities().upgrade.unwrap().upgrade(&cx(), &newer).await.unwrap();
    server.abilities().upgrade.unwrap().commit(&cx()).await.unwrap();
    assert_eq!((content(&host).as_str(), version(&server).await.as_deref()), ("hello\n", Some("2.1")));
    assert_eq!(container_ids(fixture.local.scope()).await.len(), 1);
    fixture.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resize_changes_the_limits_by_one_restart() {
    let (mut images, fixture) = (Images::new(), Fixture::new(POSTGRESQL_17).await);
    let image = images.scripted("1.5", &[]).await;
    let (server, host) = (attach(&fixture, &image), host(&fixture, &image));
    server.prepare(&cx(), &Prepare::default()).await.unwrap();
    let memory = || fs::read_to_string(host.directory.join("run/memory")).unwrap();
    let limit = async || {
        let found = docker_client().await.inspect_container(&host.name, None).await.unwrap();
        (found.id.unwrap(), found.host_config.unwrap().memory.unwrap())
    };
    let (small, large) = (fixture.host.flavor.clone(), Flavor::new("large", mib(300), 1));
    let resize = server.abilities().resize.unwrap();
    let (first, _) = limit().await;
    resize.resize(&cx(), &small).await.unwrap();
    assert_eq!(limit().await.0, first, "the server was restarted although it has the limits");
    resize.resize(&cx(), &large).await.unwrap();
    let (second, bytes) = limit().await;
    assert_eq!((memory().as_str(), bytes), ("300\n", 300 << 20));
    // A datastore attached with the previous flavor adopts the current one.
    let server = attach_at(&host);
    server.start(&cx()).await.unwrap();
    assert_eq!(limit().await.0, second);
    server.stop(&cx()).await.unwrap();
    server.start(&cx()).await.unwrap();
    let (second, bytes) = limit().await;
    assert_eq!((memory().as_str(), bytes), ("300\n", 300 << 20));
    let resize = server.abilities().resize.unwrap();
    resize.resize(&cx(), &large).await.unwrap();
    assert_eq!(limit().await.0, second, "the server was restarted although it has the limits");
    let error = resize.resize(&cx(), &Flavor::new("none", mib(1), 1)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid, "{error:?}");
    resize.resize(&cx(), &small).await.unwrap();
    assert_eq!((memory().as_str(), limit().await.1), ("256\n", 256 << 20));
    assert_eq!(version(&server).await.as_deref(), Some("1.5"));
    fixture.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_another_engine_or_version_is_rejected_by_name() {
    let (mut images, fixture) = (Images::new(), Fixture::new(POSTGRESQL_17).await);
    let (empty, other) = (images.empty().await, images.other().await);
    let (first, second) = (images.scripted("1.5", &[]).await, images.scripted("2.1", &[]).await);
    for (image, message) in [
        (&empty, format!("image {empty} does not contain scripted")),
        (&other, format!("image {other} does not contain scripted")),
        (&second, format!("image {second} is scripted 2.1, not 1")),
    ] {
        let error = attach(&fixture, image).prepare(&cx(), &Prepare::default()).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (Kind::Conflict, message), "{error:?}");
        assert_eq!(file_names(&fixture.host.volume).iter().filter(|name| *name == "data").count(), 0);
        assert!(container_ids(fixture.local.scope()).await.is_empty());
    }
    let server = attach(&fixture, &first);
    server.prepare(&cx(), &Prepare::default()).await.unwrap();
    let missing = "trove-test.invalid/nothing:1";
    for (version, image, kind, message) in [
        ("2", &empty, Kind::Conflict, format!("image {empty} does not contain scripted")),
        ("2", &other, Kind::Conflict, format!("image {other} does not contain scripted")),
        ("3", &second, Kind::Conflict, format!("image {second} is scripted 2.1, not 3")),
        (
            "2",
            &missing.to_owned(),
            Kind::Unavailable,
            format!("image {missing} is not on this machine and its registry cannot be reached"),
        ),
    ] {
        let error = server.abilities().upgrade.unwrap().check(&cx(), &Release::new(version, image)).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (kind, message), "{error:?}");
    }
    assert_eq!(self::version(&server).await.as_deref(), Some("1.5"), "a check changed the server");
    fixture.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn later_instances_of_an_image_start_with_a_copy_of_the_initial_data() {
    let (mut images, fixture) = (Images::new(), Fixture::new(POSTGRESQL_17).await);
    let image = images.scripted("1.5", &[]).await;
    let host = host(&fixture, &image);
    let origins = |host: &GuestHost| {
        let read = |name: &str| fs::read_to_string(host.volume.join("data").join(name)).ok();
        (read("origin").unwrap(), read("inner/origin").unwrap(), read("own.id"))
    };
    let first = attach_at(&host);
    first.prepare(&cx(), &Prepare::default()).await.unwrap();
    let (origin, inner, own) = origins(&host);
    assert_eq!((&origin, own.as_ref()), (&inner, Some(&origin)));
    let prepare_again = async |spec: Prepare| {
        let server = attach_at(&host);
        server.remove(&cx()).await.unwrap();
        clear(&host.volume);
        server.prepare(&cx(), &spec).await.unwrap();
        assert_eq!(version(&server).await.as_deref(), Some("1.5"));
        origins(&host)
    };
    let prepare_default = async || prepare_again(Prepare::default()).await;
    assert_ne!(
        prepare_again(Prepare::default().settings(settings(&[("a", "1")]))).await.0,
        origin,
        "the template was used although there are settings"
    );
    assert_eq!(prepare_default().await, (origin.clone(), inner, None), "the copy contains individual files");
    let templates = host.shared.clone().unwrap().join("templates");
    let template = file_names(&templates).into_iter().find(|name| name.starts_with("scripted-")).unwrap();
    fs::write(templates.join(template).join("data/content"), "damaged\n").unwrap();
    let (other, _, own) = prepare_default().await;
    assert_ne!(other, origin);
    assert_eq!((own.unwrap(), content(&host).as_str()), (other.clone(), "hello\n"));
    assert_eq!(prepare_default().await.0, other, "the damaged template was not replaced");
    fixture.remove().await;
}

fn clear(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
}
