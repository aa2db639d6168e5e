//! Configuration groups, the version registry, upgrades and resizing through the public API.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use trove_core::{
    Trove,
    conformance::memory::World,
    control::{InstanceHandle, NewConfiguration, NewInstance, NewVersion, VersionChange},
    error::{Error, Kind},
    guest,
    id::InstanceId,
    layer::FaultAction,
    lifecycle::State,
    model::{
        Condition, EventKind, Flavor, Health, Instance, NewUser, PageRequest, Problem, Settings, Status, gib, mib,
    },
};

async fn start(world: &World, store: &str) -> Trove {
    // The in-memory server emits no events, so observe it often.
    let fast_settings =
        guest::AgentSettings { observe_every: Duration::from_millis(10), ..guest::AgentSettings::default() };
    crate::builder()
        .await
        .store(store)
        .platform(world.platform())
        .datastore(world.driver())
        .flavor(Flavor::new("small", mib(512), 1))
        .flavor(Flavor::new("large", gib(2), 2))
        .guest_settings(fast_settings)
        .start()
        .await
        .unwrap()
}

fn on_disk(directory: &Path) -> String {
    format!("sqlite:{}", directory.join("trove.db").display())
}

async fn active(trove: &Trove) -> InstanceHandle {
    trove.create(NewInstance::new("orders", "memory").database("app")).await.unwrap().active().await.unwrap()
}

fn group() -> NewConfiguration {
    NewConfiguration::new("fast", "memory").set("Max-Rows", 5).set("cache_mib", 64)
}

/// Waits until the instance matches, checking after each event of any instance.
async fn until(trove: &Trove, id: InstanceId, wanted: impl Fn(&Instance) -> bool) -> InstanceHandle {
    let mut events = trove.events();
    loop {
        let instance = trove.instance(id).await.unwrap();
        if wanted(&instance) {
            return instance;
        }
        // The event may have been emitted before the subscription, so check without one too.
        let _ = tokio::time::timeout(Duration::from_millis(50), events.next()).await;
    }
}

#[tokio::test]
async fn a_group_applies_to_its_instances_and_lists_settings_pending_a_restart() {
    let world = World::new();
    let trove = start(&world, "sqlite::memory:").await;
    let groups = trove.configurations();
    let fast = groups.create(group()).await.unwrap();
    assert_eq!(fast.settings.keys().collect::<Vec<_>>(), ["cache_mib", "max_rows"]);
    assert_eq!((fast.version.as_str(), fast.revision), ("1", 1));

    let one = active(&trove).await;
    let new = NewInstance::new("orders", "memory").configuration(fast.id);
    let two = trove.create(new).await.unwrap().active().await.unwrap();
    assert_eq!((two.configuration, two.assigned_settings.settings.clone()), (Some(fast.id), fast.settings.clone()));
    assert!(two.settings.restart_required.is_empty(), "it came up with them");
    one.configure(fast.id).await.unwrap().wait().await.unwrap();
    let one = trove.instance(one.id).await.unwrap();
    assert_eq!((one.state, one.configuration), (State::Active, Some(fast.id)));
    assert_eq!(one.settings.restart_required, ["cache_mib"]);
    assert_eq!(groups.instances(fast.id).await.unwrap().len(), 2);

    let operations = groups.set(fast.id, Settings::from([("MAX_ROWS".to_owned(), 6.into())])).await.unwrap();
    assert_eq!(operations.len(), 2);
    for operation in operations {
        operation.wait().await.unwrap();
    }
    for id in [one.id, two.id] {
        assert_eq!(
            world.settings(id),
            Settings::from([("cache_mib".to_owned(), 64.into()), ("max_rows".to_owned(), 6.into())])
        );
        assert_eq!(trove.instance(id).await.unwrap().assigned_settings.group, Some((fast.id, 2)));
    }
    one.restart().await.unwrap().active().await.unwrap();
    assert!(trove.instance(one.id).await.unwrap().settings.restart_required.is_empty());

    assert_eq!(groups.delete(fast.id).await.unwrap_err().kind(), Kind::Conflict);
    one.unconfigure().await.unwrap().wait().await.unwrap();
    let one = trove.instance(one.id).await.unwrap();
    assert_eq!((one.configuration, one.settings.restart_required.clone()), (None, vec!["cache_mib".to_owned()]));
    two.delete().await.unwrap().wait().await.unwrap();
    groups.delete(fast.id).await.unwrap();
    groups.delete(fast.id).await.unwrap();
    assert_eq!(groups.get(fast.id).await.unwrap_err().kind(), Kind::NotFound);
    trove.shut_down().await;
}

#[tokio::test]
async fn invalid_settings_are_rejected_before_any_operation() {
    let world = World::new();
    let trove = start(&world, "sqlite::memory:").await;
    let groups = trove.configurations();
    let new = || NewConfiguration::new("bad", "memory");
    for (request, kind, says) in [
        (new().set("speed", 1), Kind::Invalid, "no parameter \"speed\""),
        (new().set("port", 1), Kind::Invalid, "the service chooses it"),
        (new().set("max_rows", 0), Kind::Invalid, "from 1 to 1000000"),
        (new().set("max_rows", "many"), Kind::Invalid, "an integer"),
        (new().version("3").set("max_rows", 1), Kind::NotFound, "no version \"3\"; available: 1, 2"),
        (NewConfiguration::new("bad", "oracle"), Kind::NotFound, "unknown datastore \"oracle\"; known are: memory"),
        (NewConfiguration::new("", "memory"), Kind::Invalid, "must not be empty"),
    ] {
        let error = groups.create(request).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(says), "{error} does not say {says}");
    }
    let large = groups.create(new().set("cache_mib", 1024)).await.unwrap();
    let other = groups.create(group().version("2")).await.unwrap();
    let foreign = groups.create(group().project("another")).await.unwrap();
    let instance = active(&trove).await;
    assert!(instance.configure(large.id).await.err().unwrap().to_string().contains("does not fit"));
    assert!(instance.configure(other.id).await.err().unwrap().to_string().contains("is for memory 2"));
    assert_eq!(instance.configure(foreign.id).await.err().unwrap().kind(), Kind::NotFound);
    let born = NewInstance::new("orders", "memory").configuration(large.id);
    assert_eq!(trove.create(born).await.err().unwrap().kind(), Kind::Invalid);

    // A change of a group must be valid for all its instances.
    let small = groups.create(group()).await.unwrap();
    instance.configure(small.id).await.unwrap().wait().await.unwrap();
    let grown = Settings::from([("cache_mib".to_owned(), 600.into())]);
    assert_eq!(groups.set(small.id, grown).await.err().unwrap().kind(), Kind::Invalid);
    assert_eq!(groups.get(small.id).await.unwrap().revision, 1);
    trove.shut_down().await;
}

#[tokio::test]
async fn settings_that_prevent_a_start_are_rolled_back_and_reported() {
    let world = World::new();
    let trove = start(&world, "sqlite::memory:").await;
    let poison = trove.configurations().create(group().set("poison", true)).await.unwrap();
    let instance = active(&trove).await;
    instance.configure(poison.id).await.unwrap().wait().await.unwrap();
    instance.restart().await.unwrap().active().await.unwrap();
    let instance = trove.instance(instance.id).await.unwrap();
    assert!(instance.settings.rejected.as_ref().unwrap().contains("does not start"));
    assert_eq!(instance.status(), Status::Active);
    trove.shut_down().await;
}

#[tokio::test]
async fn a_busy_instance_applies_its_group_later() {
    let world = World::new();
    let trove = start(&world, "sqlite::memory:").await;
    let fast = trove.configurations().create(group()).await.unwrap();
    let instance = active(&trove).await;
    instance.configure(fast.id).await.unwrap().wait().await.unwrap();
    instance.stop().await.unwrap().wait().await.unwrap();
    let settings = Settings::from([("max_rows".to_owned(), 9.into())]);
    assert!(trove.configurations().replace(fast.id, settings.clone()).await.unwrap().is_empty());
    instance.start().await.unwrap().active().await.unwrap();
    let followed = until(&trove, instance.id, |instance| instance.assigned_settings.group == Some((fast.id, 2))).await;
    assert_eq!((&followed.assigned_settings.settings, world.settings(instance.id)), (&settings, settings.clone()));

    // A revision that the server rejects is not retried forever, and the fault has the reason.
    world.script(|_, call| match call.name {
        "configuration.apply" => FaultAction::FailBefore(Error::invalid("the server refuses max_rows")),
        _ => FaultAction::Proceed,
    });
    let operations = trove.configurations().set(fast.id, [("max_rows".to_owned(), 1.into())].into()).await.unwrap();
    assert!(operations[0].wait().await.is_err());
    world.script(|_, _| FaultAction::Proceed);
    operations[0].resume().await.unwrap();
    let failed = until(&trove, instance.id, |instance| instance.state == State::Active).await;
    assert!(failed.fault.as_ref().unwrap().message.contains("refuses max_rows"));
    assert_eq!((failed.assigned_settings.group, world.settings(failed.id)), (Some((fast.id, 3)), settings));
    trove.shut_down().await;
}

#[tokio::test]
async fn a_parameter_catalog_is_read_once_from_a_scratch_server_that_is_removed() {
    let world = World::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    world.script(move |_, call| {
        count.fetch_add(usize::from(call.name == "configuration.catalog"), Ordering::Relaxed);
        FaultAction::Proceed
    });
    let directory = tempfile::tempdir().unwrap();
    let trove = start(&world, &on_disk(directory.path())).await;
    for _ in 0..2 {
        let catalog = trove.datastores().parameters("memory", "1").await.unwrap();
        assert_eq!(catalog.digest, "digest of memory:1");
        assert!(catalog.parameter("max_rows").unwrap().dynamic);
    }
    trove.datastores().parameters("memory", "2").await.unwrap();
    assert_eq!((asked.load(Ordering::Relaxed), world.leftovers()), (2, Vec::<String>::new()));
    trove.shut_down().await;

    // The next process removes what the previous one could not.
    let world = World::new();
    world.script(|_, call| match call.name {
        "configuration.catalog" => FaultAction::HangBefore,
        "release_compute" => FaultAction::FailBefore(Error::unavailable("the platform is away")),
        _ => FaultAction::Proceed,
    });
    let store = format!("sqlite:{}", directory.path().join("killed.db").display());
    let trove = start(&world, &store).await;
    let waiting = tokio::spawn({
        let trove = trove.clone();
        async move { trove.datastores().parameters("memory", "1").await }
    });
    while world.leftovers().len() < 3 {
        tokio::task::yield_now().await;
    }
    trove.shut_down().await;
    assert!(waiting.await.unwrap().is_err());
    assert_eq!(world.leftovers().len(), 3);
    world.script(|_, _| FaultAction::Proceed);
    let trove = start(&world, &store).await;
    while !world.leftovers().is_empty() {
        tokio::task::yield_now().await;
    }
    trove.shut_down().await;
}

#[tokio::test]
async fn the_version_registry_is_editable_at_run_time() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::new();
    let trove = start(&world, &on_disk(directory.path())).await;
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
    let instance = active(&trove).await;
    assert_eq!((instance.version.as_str(), instance.version_number.as_str()), ("1-hardened", "1.5"));
    assert_eq!(world.shape(instance.id).unwrap().0, "host:5000/memory@sha256:1");
    assert_eq!(registry.remove("memory", "1-hardened").await.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(registry.remove("memory", "1").await.unwrap_err().kind(), Kind::Conflict, "it is the driver's own");
    registry.change("memory", "1-hardened", VersionChange::new().active(false)).await.unwrap();
    registry.change("memory", "2", VersionChange::new().image("memory:2b").no_login()).await.unwrap();
    let refused = trove.create(NewInstance::new("x", "memory").version("1-hardened")).await.err().unwrap();
    assert!(refused.to_string().contains("is not active"), "{refused}");
    assert_eq!(active(&trove).await.version, "1", "the first that is on offer");
    registry.verify("memory", "1").await.unwrap();
    trove.shut_down().await;

    // Changes of the registry are persistent.
    let trove = start(&world, &on_disk(directory.path())).await;
    assert_eq!(names(&trove).await, ["1-hardened", "1", "2"]);
    assert_eq!(trove.datastores().version("memory", "2").await.unwrap().image, "memory:2b");
    trove.shut_down().await;
}

#[tokio::test]
async fn an_upgrade_succeeds_or_restores_the_old_release() {
    let world = World::new();
    let trove = start(&world, "sqlite::memory:").await;
    let registry = trove.datastores();
    let instance = active(&trove).await;
    let image = |id| world.shape(id).unwrap().0;
    assert_eq!(instance.upgrade("1").await.err().unwrap().kind(), Kind::Conflict);
    assert_eq!(instance.upgrade("9").await.err().unwrap().kind(), Kind::NotFound);

    for (bad, says) in [("memory:missing", "does not exist"), ("memory:broken", "does not start")] {
        registry.change("memory", "2", VersionChange::new().image(bad)).await.unwrap();
        let error = instance.upgrade("2").await.unwrap().wait().await.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        let kept = trove.instance(instance.id).await.unwrap();
        assert_eq!((kept.state, kept.version.as_str(), image(kept.id).as_str()), (State::Active, "1", "memory:1"));
        assert!(kept.fault.as_ref().unwrap().message.contains(says));
        assert!(world.serves(instance.id, &["app"], &[]));
    }
    registry.change("memory", "2", VersionChange::new().image("memory:2")).await.unwrap();
    let upgraded = instance.upgrade("2").await.unwrap().active().await.unwrap();
    assert_eq!((upgraded.version.as_str(), upgraded.image.as_str(), upgraded.fault.clone()), ("2", "memory:2", None));
    assert_eq!(image(upgraded.id), "memory:2");
    assert!(world.serves(instance.id, &["app"], &[]));

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
            name if name == failing => FaultAction::FailBefore(Error::unavailable("away for a while")),
            _ => FaultAction::Proceed,
        });
        let trove = start(&world, &on_disk(directory.path())).await;
        let instance = active(&trove).await;
        let mut events = trove.events();
        let upgrade = instance.upgrade("2").await.unwrap();
        while !matches!(events.next().await.unwrap().kind, EventKind::Failed { .. }) {}
        trove.shut_down().await;

        world.script(|_, call| match call.name {
            "upgrade.check" => FaultAction::FailBefore(Error::invalid("this cannot be")),
            _ => FaultAction::Proceed,
        });
        let trove = start(&world, &on_disk(directory.path())).await;
        let ended = trove.operation(upgrade.id()).await.unwrap().wait().await;
        assert_eq!(ended.is_ok(), succeeds, "{failing}: {ended:?}");
        until(&trove, instance.id, |instance| instance.status() == Status::Active).await;
        world.break_server(instance.id, Health::Down(Problem::new(Condition::Killed, "the server was killed")));
        while !world.serves(instance.id, &["app"], &[]) {
            tokio::task::yield_now().await;
        }
        trove.shut_down().await;
    }
}

#[tokio::test]
async fn concurrent_changes_of_a_group_are_not_lost() {
    let world = World::new();
    let trove = start(&world, "sqlite::memory:").await;
    let groups = trove.configurations();
    let new = group();
    let id = groups.create(new.clone()).await.unwrap().id;
    assert_eq!(groups.create(new.clone()).await.unwrap().id, id, "the same request is the same group");
    assert_eq!(groups.create(new.set("Max-Rows", 9)).await.unwrap_err().kind(), Kind::Conflict);
    let set = |name: &str, value: i64| groups.set(id, Settings::from([(name.to_owned(), value.into())]));
    let (one, other) = tokio::join!(set("max_rows", 7), set("cache_mib", 8));
    let (settings, lost) = (groups.get(id).await.unwrap().settings, [one, other].into_iter().filter_map(Result::err));
    let refused: Vec<_> = lost.map(|error| error.kind()).collect();
    let made = usize::from(settings["max_rows"] == 7.into()) + usize::from(settings["cache_mib"] == 8.into());
    assert_eq!((refused, made), (vec![Kind::Busy; 2 - made], made), "who lost was told so");
    groups.rename(id, "slow", "for reports").await.unwrap();
    let renamed = groups.get(id).await.unwrap();
    assert_eq!((renamed.name.as_str(), renamed.settings), ("slow", settings));
    trove.shut_down().await;
}

#[tokio::test]
async fn a_resize_succeeds_or_keeps_the_old_flavor() {
    let world = World::new();
    let trove = start(&world, "sqlite::memory:").await;
    let instance = active(&trove).await;
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
            return FaultAction::FailAfter(Error::invalid("the server does not come up"));
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
    let accounts = active(&trove).await.accounts();
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
    let store = on_disk(directory.path());
    let trove = start(&world, &store).await;
    let instance = active(&trove).await;
    for _ in 0..2 {
        let rotation = instance.rotate_identity().await.unwrap();
        let rotated = AtomicBool::new(false);
        let changes = async {
            let accounts = instance.accounts();
            while !rotated.load(Ordering::Relaxed) {
                accounts.create_users([NewUser::new("guest", "secret")]).await.unwrap();
                accounts.drop_user("guest").await.unwrap();
            }
            assert!(accounts.users(PageRequest::default()).await.unwrap().items.is_empty());
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
    let refused = instance.rotate_identity().await.err().unwrap();
    assert_eq!((refused.kind(), refused.to_string().contains("identity")), (Kind::Conflict, true), "{refused}");
    instance.delete().await.unwrap().wait().await.unwrap();
    trove.shut_down().await;
}
