//! The version registry, upgrades, resizing, root history and identity rotation through the public
//! API.

use std::sync::atomic::{AtomicBool, Ordering};

use trove_core::{
    Trove,
    conformance::memory::World,
    control::{NewConfiguration, NewInstance, NewVersion, VersionChange},
    error::{Error, Kind},
    layer::FaultAction,
    lifecycle::State,
    model::{Condition, EventKind, Health, NewUser, PageRequest, Problem, Status, gib},
};

use crate::fixture::{create_active, group, sqlite_url, start, until};

#[tokio::test]
async fn the_version_registry_is_editable_at_run_time() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::new();
    let trove = start(&world, &sqlite_url(directory.path())).await;
    let registry = trove.datastores();
    let names = async |trove: &Trove| {
        let versions = trove.datastores().versions("memory").await.unwrap();
        versions.into_iter().map(|version| version.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&trove).await, ["1", "2"]);
    let hardened = NewVersion::new("memory", "1-hardened", "1.5", "host:5000/memory@sha256:1").login("robot", "t0ken");
    let added = registry.add(hardened.clone()).await.unwrap();
    assert_eq!((added.username.as_deref(), added.default), (Some("robot"), false));
    assert!(!format!("{added:?} {hardened:?}").contains("t0ken"));
    assert_eq!(registry.add(hardened).await.unwrap_err().kind(), Kind::Conflict);
    for (new, kind) in [
        (NewVersion::new("oracle", "1", "1", "i"), Kind::NotFound),
        (NewVersion::new("memory", "3", "3", "i"), Kind::Invalid),
        (NewVersion::new("memory", "", "1", "i"), Kind::Invalid),
        (NewVersion::new("memory", "x", "1", "no image"), Kind::Invalid),
        (NewVersion::new("memory", "x", "1", ""), Kind::Invalid),
    ] {
        assert_eq!(registry.add(new).await.unwrap_err().kind(), kind);
    }
    registry.change("memory", "1-hardened", VersionChange::new().make_default()).await.unwrap();
    let instance = create_active(&trove).await;
    assert_eq!((instance.version.as_str(), instance.version_number.as_str()), ("1-hardened", "1.5"));
    assert_eq!(world.shape(instance.id).unwrap().0, "host:5000/memory@sha256:1");
    assert_eq!(registry.remove("memory", "1-hardened").await.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(
        registry.remove("memory", "1").await.unwrap_err().kind(),
        Kind::Conflict,
        "the version is from the driver"
    );
    registry.change("memory", "1-hardened", VersionChange::new().active(false)).await.unwrap();
    registry.change("memory", "2", VersionChange::new().image("memory:2b").no_login()).await.unwrap();
    let error = trove.create(NewInstance::new("x", "memory").version("1-hardened")).await.err().unwrap();
    assert!(error.to_string().contains("is not active"), "{error}");
    assert_eq!(create_active(&trove).await.version, "1", "the first active version is the default");
    registry.verify("memory", "1").await.unwrap();
    trove.shut_down().await;

    // Changes of the registry are persistent.
    let trove = start(&world, &sqlite_url(directory.path())).await;
    assert_eq!(names(&trove).await, ["1-hardened", "1", "2"]);
    assert_eq!(trove.datastores().version("memory", "2").await.unwrap().image, "memory:2b");
    trove.shut_down().await;
}

#[tokio::test]
async fn an_upgrade_succeeds_or_restores_the_old_release() {
    let world = World::new();
    let trove = start(&world, "sqlite::memory:").await;
    let registry = trove.datastores();
    let instance = create_active(&trove).await;
    let image = |id| world.shape(id).unwrap().0;
    assert_eq!(instance.upgrade("1").await.err().unwrap().kind(), Kind::Conflict);
    assert_eq!(instance.upgrade("9").await.err().unwrap().kind(), Kind::NotFound);

    for (bad, message) in [("memory:missing", "does not exist"), ("memory:broken", "does not start")] {
        registry.change("memory", "2", VersionChange::new().image(bad)).await.unwrap();
        let error = instance.upgrade("2").await.unwrap().wait().await.unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        let kept = trove.instance(instance.id).await.unwrap();
        assert_eq!((kept.state, kept.version.as_str(), image(kept.id).as_str()), (State::Active, "1", "memory:1"));
        assert!(kept.fault.as_ref().unwrap().message.contains(message));
        assert!(world.serves(instance.id, &["app"], &["app"]));
    }
    registry.change("memory", "2", VersionChange::new().image("memory:2")).await.unwrap();
    let upgraded = instance.upgrade("2").await.unwrap().active().await.unwrap();
    assert_eq!((upgraded.version.as_str(), upgraded.image.as_str(), upgraded.fault.clone()), ("2", "memory:2", None));
    assert_eq!(image(upgraded.id), "memory:2");
    assert!(world.serves(instance.id, &["app"], &["app"]));

    // An upgrade to the same version replaces the image; a group is for one version.
    registry.change("memory", "2", VersionChange::new().image("memory:2b")).await.unwrap();
    let fast = trove.configurations().create(group().version("2")).await.unwrap();
    upgraded.configure(fast.id).await.unwrap().wait().await.unwrap();
    upgraded.upgrade("2").await.unwrap().active().await.unwrap();
    assert_eq!(image(upgraded.id), "memory:2b");
    assert!(upgraded.upgrade("1").await.err().unwrap().to_string().contains("configuration group"));
    trove.shut_down().await;
}

#[tokio::test]
async fn an_agent_started_during_an_upgrade_supervises_the_server() {
    for (failing, succeeds) in [("upgrade.check", false), ("upgrade.commit", true)] {
        let (world, directory) = (World::new(), tempfile::tempdir().unwrap());
        world.script(move |_, call| match call.name {
            name if name == failing => FaultAction::FailBefore(Error::unavailable("temporarily unavailable")),
            _ => FaultAction::Proceed,
        });
        let trove = start(&world, &sqlite_url(directory.path())).await;
        let instance = create_active(&trove).await;
        let mut events = trove.events();
        let upgrade = instance.upgrade("2").await.unwrap();
        while !matches!(events.next().await.unwrap().kind, EventKind::Failed { .. }) {}
        trove.shut_down().await;

        world.script(|_, call| match call.name {
            "upgrade.check" => FaultAction::FailBefore(Error::invalid("unsupported upgrade")),
            _ => FaultAction::Proceed,
        });
        let trove = start(&world, &sqlite_url(directory.path())).await;
        let ended = trove.operation(upgrade.id()).await.unwrap().wait().await;
        assert_eq!(ended.is_ok(), succeeds, "{failing}: {ended:?}");
        until(&trove, instance.id, |instance| instance.status() == Status::Active).await;
        world.break_server(instance.id, Health::Down(Problem::new(Condition::Killed, "the server was killed")));
        while !world.serves(instance.id, &["app"], &["app"]) {
            tokio::time::sleep(crate::POLL_INTERVAL).await;
        }
        trove.shut_down().await;
    }
}

#[tokio::test]
async fn a_resize_succeeds_or_keeps_the_old_flavor() {
    let world = World::new();
    let trove = start(&world, "sqlite::memory:").await;
    let instance = create_active(&trove).await;
    assert_eq!(instance.resize("small").await.err().unwrap().kind(), Kind::Conflict);
    assert_eq!(instance.resize("huge").await.err().unwrap().kind(), Kind::NotFound);
    let resized = instance.resize("large").await.unwrap().active().await.unwrap();
    assert_eq!((resized.flavor.name.as_str(), world.shape(resized.id).unwrap().1), ("large", gib(2)));
    let big =
        trove.configurations().create(NewConfiguration::new("big", "memory").set("cache_mib", 1024)).await.unwrap();
    resized.configure(big.id).await.unwrap().wait().await.unwrap();
    assert!(resized.resize("small").await.err().unwrap().to_string().contains("does not fit"));
    resized.unconfigure().await.unwrap().wait().await.unwrap();

    let mut failed = false;
    world.script(move |_, call| {
        if call.name == "resize.resize" && !failed {
            failed = true;
            return FaultAction::FailAfter(Error::invalid("the server does not start"));
        }
        FaultAction::Proceed
    });
    assert!(resized.resize("small").await.unwrap().wait().await.is_err());
    let kept = trove.instance(resized.id).await.unwrap();
    assert_eq!((kept.state, kept.flavor.name.as_str()), (State::Active, "large"));
    assert_eq!(world.shape(kept.id).unwrap().1, gib(2));
    trove.shut_down().await;
}

#[tokio::test]
async fn root_history_is_recorded() {
    let world = World::new();
    let trove = start(&world, "sqlite::memory:").await;
    let accounts = create_active(&trove).await.accounts();
    assert!(accounts.root_history().await.unwrap().is_empty());
    accounts.enable_root().await.unwrap();
    accounts.disable_root().await.unwrap();
    let history = accounts.root_history().await.unwrap();
    assert_eq!(history.iter().map(|change| change.enabled).collect::<Vec<_>>(), [false, true]);
    trove.shut_down().await;
}

#[tokio::test]
async fn a_guest_identity_is_rotated_during_account_changes() {
    let (world, directory) = (World::new(), tempfile::tempdir().unwrap());
    let store = sqlite_url(directory.path());
    let trove = start(&world, &store).await;
    let instance = create_active(&trove).await;
    for _ in 0..2 {
        let rotation = instance.rotate_identity().await.unwrap();
        let rotated = AtomicBool::new(false);
        let changes = async {
            let accounts = instance.accounts();
            while !rotated.load(Ordering::Relaxed) {
                accounts.create_users([NewUser::new("guest", "secret")]).await.unwrap();
                accounts.drop_user("guest").await.unwrap();
            }
            assert_eq!(accounts.users(PageRequest::default()).await.unwrap().items.len(), 1);
        };
        let ended = async {
            rotation.wait().await.unwrap();
            rotated.store(true, Ordering::Relaxed);
        };
        tokio::join!(changes, ended);
        assert_eq!(trove.instance(instance.id).await.unwrap().state, State::Active);
    }
    let id = instance.id;
    trove.shut_down().await;
    drop((instance, trove));

    let trove = start(&world, &store).await;
    let instance = until(&trove, id, |instance| instance.health == Health::Healthy).await;
    instance.rotate_identity().await.unwrap().wait().await.unwrap();
    instance.stop().await.unwrap().wait().await.unwrap();
    let error = instance.rotate_identity().await.err().unwrap();
    assert_eq!((error.kind(), error.to_string().contains("identity")), (Kind::Conflict, true), "{error}");
    instance.delete().await.unwrap().wait().await.unwrap();
    trove.shut_down().await;
}
