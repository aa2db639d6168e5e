//! Other releases and flavors of any engine in a container, and what an image turns out to hold.

use std::{path::Path, sync::Arc, time::Duration};

use crate::common::{Fixture, HANG_LIMIT, POSTGRESQL_17, bollard, containers, cx, file_names};
use crate::scripted::{Images, Server, host, server, server_at, settings, words};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use trove_core::{
    datastore::{Prepare, Release},
    error::Kind,
    model::{Flavor, Health, Progress, mib},
};

const LOOK_PAUSE: Duration = Duration::from_millis(100);

async fn version(server: &Server) -> Option<String> {
    let answered = async {
        loop {
            let observed = server.observe(&cx()).await.unwrap();
            // On a busy machine one that has only just come up may be late to answer.
            if observed.health != Health::Starting {
                return observed;
            }
            sleep(LOOK_PAUSE).await;
        }
    };
    let observed = timeout(HANG_LIMIT, answered).await.expect("the server does not answer");
    assert_eq!(observed.health, Health::Healthy);
    observed.server_version
}

/// Upgrades until that tells of this phase, and then no more.
async fn break_off(server: &Server, to: &Release, phase: &'static str) {
    let told = Arc::new(Notify::new());
    let teller = Arc::clone(&told);
    let sink = Arc::new(move |progress: Progress| {
        if progress.phase == phase {
            teller.notify_one();
        }
    });
    let cx = cx().with_progress(sink);
    tokio::select! {
        biased;
        () = told.notified() => {}
        done = server.abilities().upgrade.unwrap().upgrade(&cx, to) => panic!("not at {phase}: {done:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_changes_the_data_and_is_final_when_concluded() {
    let (mut images, fixture) = (Images::new(), Fixture::new(POSTGRESQL_17).await);
    let image = images.scripted("1.5", &[]).await;
    let newer = Release::new("2", images.scripted("2.1", &[]).await);
    let server = server(&fixture, &image);
    server.prepare(&cx(), &Prepare::default()).await.unwrap();
    let upgrade = server.abilities().upgrade.unwrap();
    upgrade.check(&cx(), &newer).await.unwrap();
    assert_eq!(version(&server).await.as_deref(), Some("1.5"));
    for _ in 0..2 {
        upgrade.upgrade(&cx(), &newer).await.unwrap();
        assert_eq!(version(&server).await.as_deref(), Some("2.1"));
    }
    assert_eq!(file_names(&fixture.host.volume), ["data", "data.before"]);
    // A process that knows nothing yet of the new release leaves its data alone.
    let error = server_at(&host(&fixture, &image)).start(&cx()).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().contains("version 2")), (Kind::Conflict, true), "{error}");
    for _ in 0..2 {
        upgrade.commit(&cx()).await.unwrap();
    }
    assert_eq!(file_names(&fixture.host.volume), ["data"]);
    assert_eq!(std::fs::read_to_string(fixture.host.volume.join("data/migrated")).unwrap(), "2.1\n");
    // One that was told of the old release only, because its caller did not come to note the new one, learns of it.
    let server = server_at(&host(&fixture, &image));
    let upgrade = server.abilities().upgrade.unwrap();
    let error = upgrade.revert(&cx(), &Release::new("1", image.clone())).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "{error:?}");
    server.stop(&cx()).await.unwrap();
    server.start(&cx()).await.unwrap();
    assert_eq!(version(&server).await.as_deref(), Some("2.1"));

    let patch = Release::new("2.2", images.scripted("2.2.0", &[]).await);
    upgrade.upgrade(&cx(), &patch).await.unwrap();
    assert_eq!(file_names(&fixture.host.volume), ["data"], "what is not changed is not copied");
    upgrade.commit(&cx()).await.unwrap();
    let error = upgrade.check(&cx(), &Release::new("1", image)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert_eq!(version(&server).await.as_deref(), Some("2.2.0"));
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_ruins_the_data_is_undone() {
    let (mut images, fixture) = (Images::new(), Fixture::new(POSTGRESQL_17).await);
    let image = images.scripted("1.5", &[]).await;
    let broken = Release::new("2", images.scripted("2.1", &["SCRIPTED_BREAKS=1"]).await);
    let (old, host) = (Release::new("1", image.clone()), host(&fixture, &image));
    let server = server_at(&host);
    server.prepare(&cx(), &Prepare::default()).await.unwrap();
    std::fs::write(host.volume.join("data/words"), "mine\n").unwrap();
    let upgrade = server.abilities().upgrade.unwrap();
    let error = upgrade.upgrade(&cx(), &broken).await.unwrap_err();
    assert_eq!(error.to_string(), "the server does not start: it exited with code 5");
    assert_eq!(words(&host), "ruined\n");
    for _ in 0..2 {
        upgrade.revert(&cx(), &old).await.unwrap();
        assert_eq!((words(&host).as_str(), version(&server).await.as_deref()), ("mine\n", Some("1.5")));
    }
    assert_eq!(file_names(&host.volume), ["data"]);
    assert_eq!(server_at(&host).start(&cx()).await.map_err(|error| error.kind()), Ok(()));
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_goes_on_or_back_from_wherever_it_broke_off() {
    let (mut images, fixture) = (Images::new(), Fixture::new(POSTGRESQL_17).await);
    let image = images.scripted("1.5", &[]).await;
    let newer = Release::new("2", images.scripted("2.1", &[]).await);
    let (old, host) = (Release::new("1", image.clone()), host(&fixture, &image));
    server_at(&host).prepare(&cx(), &Prepare::default()).await.unwrap();
    for phase in ["stop server", "copy data", "start server", "migrate data"] {
        // Whoever finds it knows only of the old release.
        break_off(&server_at(&host), &newer, phase).await;
        let server = server_at(&host);
        server.abilities().upgrade.unwrap().revert(&cx(), &old).await.unwrap();
        assert_eq!((words(&host).as_str(), version(&server).await.as_deref()), ("hello\n", Some("1.5")), "{phase}");
        assert_eq!(file_names(&host.volume), ["data"], "{phase}");
    }
    for phase in ["stop server", "copy data", "start server", "migrate data"] {
        break_off(&server_at(&host), &newer, phase).await;
    }
    let server = server_at(&host);
    server.abilities().upgrade.unwrap().upgrade(&cx(), &newer).await.unwrap();
    server.abilities().upgrade.unwrap().commit(&cx()).await.unwrap();
    assert_eq!((words(&host).as_str(), version(&server).await.as_deref()), ("hello\n", Some("2.1")));
    assert_eq!(containers(fixture.local.scope()).await.len(), 1);
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_back_that_breaks_off_is_gone_again() {
    let (mut images, fixture) = (Images::new(), Fixture::new(POSTGRESQL_17).await);
    let image = images.scripted("1.5", &[]).await;
    let newer = Release::new("2", images.scripted("2.1", &[]).await);
    let (old, host) = (Release::new("1", image.clone()), host(&fixture, &image));
    let server = server_at(&host);
    server.prepare(&cx(), &Prepare::default()).await.unwrap();
    server.abilities().upgrade.unwrap().upgrade(&cx(), &newer).await.unwrap();
    // The new data was moved away, and the old not yet put back.
    std::fs::rename(host.volume.join("data"), host.volume.join("data.after")).unwrap();
    let server = server_at(&host);
    let again = server.start(&cx()).await.unwrap_err();
    assert_eq!(again.kind(), Kind::Conflict, "{again}");
    server.abilities().upgrade.unwrap().revert(&cx(), &old).await.unwrap();
    assert_eq!((words(&host).as_str(), version(&server).await.as_deref()), ("hello\n", Some("1.5")));
    assert_eq!(file_names(&host.volume), ["data"]);
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_given_other_limits_by_one_restart() {
    let (mut images, fixture) = (Images::new(), Fixture::new(POSTGRESQL_17).await);
    let image = images.scripted("1.5", &[]).await;
    let (server, host) = (server(&fixture, &image), host(&fixture, &image));
    server.prepare(&cx(), &Prepare::default()).await.unwrap();
    let memory = || std::fs::read_to_string(host.directory.join("run/memory")).unwrap();
    let limit = async || {
        let found = bollard().await.inspect_container(&host.name, None).await.unwrap();
        (found.id.unwrap(), found.host_config.unwrap().memory.unwrap())
    };
    let (small, large) = (fixture.host.flavor.clone(), Flavor::new("large", mib(300), 1));
    let resize = server.abilities().resize.unwrap();
    let (first, _) = limit().await;
    resize.resize(&cx(), &small).await.unwrap();
    assert_eq!(limit().await.0, first, "it has them already");
    resize.resize(&cx(), &large).await.unwrap();
    let (second, bytes) = limit().await;
    assert_eq!((memory().as_str(), bytes), ("300\n", 300 << 20));
    // One that was told of the former flavor only learns of the new one.
    let server = server_at(&host);
    server.start(&cx()).await.unwrap();
    assert_eq!(limit().await.0, second);
    server.stop(&cx()).await.unwrap();
    server.start(&cx()).await.unwrap();
    let (second, bytes) = limit().await;
    assert_eq!((memory().as_str(), bytes), ("300\n", 300 << 20));
    let resize = server.abilities().resize.unwrap();
    resize.resize(&cx(), &large).await.unwrap();
    assert_eq!(limit().await.0, second, "it was resized before");
    let error = resize.resize(&cx(), &Flavor::new("none", mib(1), 1)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid, "{error:?}");
    resize.resize(&cx(), &small).await.unwrap();
    assert_eq!((memory().as_str(), limit().await.1), ("256\n", 256 << 20));
    assert_eq!(version(&server).await.as_deref(), Some("1.5"));
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_something_else_is_refused_by_name() {
    let (mut images, fixture) = (Images::new(), Fixture::new(POSTGRESQL_17).await);
    let (empty, plain) = (images.empty().await, images.plain().await);
    let (fine, second) = (images.scripted("1.5", &[]).await, images.scripted("2.1", &[]).await);
    for (image, words) in [
        (&empty, format!("image {empty} does not contain scripted")),
        (&plain, format!("image {plain} does not contain scripted")),
        (&second, format!("image {second} is scripted 2.1, not 1")),
    ] {
        let error = server(&fixture, image).prepare(&cx(), &Prepare::default()).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (Kind::Conflict, words), "{error:?}");
        assert_eq!(file_names(&fixture.host.volume).iter().filter(|name| *name == "data").count(), 0);
        assert!(containers(fixture.local.scope()).await.is_empty());
    }
    let server = server(&fixture, &fine);
    server.prepare(&cx(), &Prepare::default()).await.unwrap();
    let missing = "trove-test.invalid/nothing:1";
    for (version, image, kind, words) in [
        ("2", &empty, Kind::Conflict, format!("image {empty} does not contain scripted")),
        ("2", &plain, Kind::Conflict, format!("image {plain} does not contain scripted")),
        ("3", &second, Kind::Conflict, format!("image {second} is scripted 2.1, not 3")),
        (
            "2",
            &missing.to_owned(),
            Kind::Unavailable,
            format!("image {missing} is not on this machine and its registry cannot be reached"),
        ),
    ] {
        let error = server.abilities().upgrade.unwrap().check(&cx(), &Release::new(version, image)).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (kind, words), "{error:?}");
    }
    assert_eq!(self::version(&server).await.as_deref(), Some("1.5"), "nothing was changed");
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_instance_of_an_image_begins_with_a_copy_of_the_first_one_s_data() {
    let (mut images, fixture) = (Images::new(), Fixture::new(POSTGRESQL_17).await);
    let image = images.scripted("1.5", &[]).await;
    let host = host(&fixture, &image);
    let made = |host: &trove_core::datastore::GuestHost| {
        let read = |name: &str| std::fs::read_to_string(host.volume.join("data").join(name)).ok();
        (read("made").unwrap(), read("inner/made").unwrap(), read("own.id"))
    };
    let first = server_at(&host);
    first.prepare(&cx(), &Prepare::default()).await.unwrap();
    let (origin, inner, own) = made(&host);
    assert_eq!((&origin, own.as_ref()), (&inner, Some(&origin)));
    let begin = async |spec: Prepare| {
        let server = server_at(&host);
        server.remove(&cx()).await.unwrap();
        clear(&host.volume);
        server.prepare(&cx(), &spec).await.unwrap();
        assert_eq!(version(&server).await.as_deref(), Some("1.5"));
        made(&host)
    };
    let anew = async || begin(Prepare::default()).await;
    assert_ne!(begin(Prepare::default().settings(settings(&[("a", "1")]))).await.0, origin, "settings may matter");
    assert_eq!(anew().await, (origin.clone(), inner, None), "without what is the first one's alone");
    let templates = host.shared.clone().unwrap().join("templates");
    let template = file_names(&templates).into_iter().find(|name| name.starts_with("scripted-")).unwrap();
    std::fs::write(templates.join(template).join("data/words"), "spoilt\n").unwrap();
    let (other, _, own) = anew().await;
    assert_ne!(other, origin);
    assert_eq!((own.unwrap(), words(&host).as_str()), (other.clone(), "hello\n"));
    assert_eq!(anew().await.0, other, "the damaged one was replaced");
    fixture.removed().await;
}

fn clear(directory: &Path) {
    for entry in std::fs::read_dir(directory).unwrap() {
        std::fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
}
