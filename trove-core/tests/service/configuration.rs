//! Configuration groups and parameter catalogs through the public API.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use trove_core::{
    conformance::memory::World,
    control::{NewConfiguration, NewInstance},
    error::{Error, Kind},
    layer::FaultAction,
    lifecycle::State,
    model::{Settings, Status},
};

use crate::fixture::{create_active, group, sqlite_url, start, until};

#[tokio::test]
async fn a_group_applies_to_its_instances_and_lists_settings_pending_a_restart() {
    let world = World::new();
    let trove = start(&world, "sqlite::memory:").await;
    let groups = trove.configurations();
    let fast = groups.create(group()).await.unwrap();
    assert_eq!(fast.settings.keys().collect::<Vec<_>>(), ["cache_mib", "max_rows"]);
    assert_eq!((fast.version.as_str(), fast.revision), ("1", 1));

    let one = create_active(&trove).await;
    let new = NewInstance::new("orders", "memory").configuration(fast.id);
    let two = trove.create(new).await.unwrap().active().await.unwrap();
    assert_eq!((two.configuration, two.assigned_settings.settings.clone()), (Some(fast.id), fast.settings.clone()));
    assert!(two.settings.restart_required.is_empty(), "the server was started with the settings");
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
    for (request, kind, message) in [
        (new().set("speed", 1), Kind::Invalid, "no parameter \"speed\""),
        (new().set("port", 1), Kind::Invalid, "the service chooses it"),
        (new().set("max_rows", 0), Kind::Invalid, "from 1 to 1000000"),
        (new().set("max_rows", "many"), Kind::Invalid, "an integer"),
        (new().version("3").set("max_rows", 1), Kind::NotFound, "no version \"3\"; available: 1, 2"),
        (NewConfiguration::new("bad", "oracle"), Kind::NotFound, "unknown datastore \"oracle\"; available: memory"),
        (NewConfiguration::new("", "memory"), Kind::Invalid, "must not be empty"),
    ] {
        let error = groups.create(request).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(message), "{error} does not contain {message:?}");
    }
    let large = groups.create(new().set("cache_mib", 1024)).await.unwrap();
    let other = groups.create(group().version("2")).await.unwrap();
    let foreign = groups.create(group().project("another")).await.unwrap();
    let instance = create_active(&trove).await;
    assert!(instance.configure(large.id).await.err().unwrap().to_string().contains("does not fit"));
    assert!(instance.configure(other.id).await.err().unwrap().to_string().contains("is for memory 2"));
    assert_eq!(instance.configure(foreign.id).await.err().unwrap().kind(), Kind::NotFound);
    let new_instance = NewInstance::new("orders", "memory").configuration(large.id);
    assert_eq!(trove.create(new_instance).await.err().unwrap().kind(), Kind::Invalid);

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
    let instance = create_active(&trove).await;
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
    let instance = create_active(&trove).await;
    instance.configure(fast.id).await.unwrap().wait().await.unwrap();
    instance.stop().await.unwrap().wait().await.unwrap();
    let settings = Settings::from([("max_rows".to_owned(), 9.into())]);
    assert!(trove.configurations().replace(fast.id, settings.clone()).await.unwrap().is_empty());
    instance.start().await.unwrap().active().await.unwrap();
    let updated = until(&trove, instance.id, |instance| instance.assigned_settings.group == Some((fast.id, 2))).await;
    assert_eq!((&updated.assigned_settings.settings, world.settings(instance.id)), (&settings, settings.clone()));

    // A revision that the server rejects is not retried forever, and the fault has the reason.
    world.script(|_, call| match call.name {
        "configuration.apply" => FaultAction::FailBefore(Error::invalid("the server rejects max_rows")),
        _ => FaultAction::Proceed,
    });
    let operations = trove.configurations().set(fast.id, [("max_rows".to_owned(), 1.into())].into()).await.unwrap();
    assert!(operations[0].wait().await.is_err());
    world.script(|_, _| FaultAction::Proceed);
    operations[0].resume().await.unwrap();
    let failed = until(&trove, instance.id, |instance| instance.state == State::Active).await;
    assert!(failed.fault.as_ref().unwrap().message.contains("rejects max_rows"));
    assert_eq!((failed.assigned_settings.group, world.settings(failed.id)), (Some((fast.id, 3)), settings));
    trove.shut_down().await;
}

#[tokio::test]
async fn a_parameter_catalog_is_read_once_from_a_scratch_server_that_is_removed() {
    let world = World::new();
    let reads = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reads);
    world.script(move |_, call| {
        count.fetch_add(usize::from(call.name == "configuration.catalog"), Ordering::Relaxed);
        FaultAction::Proceed
    });
    let directory = tempfile::tempdir().unwrap();
    let trove = start(&world, &sqlite_url(directory.path())).await;
    for _ in 0..2 {
        let catalog = trove.datastores().parameters("memory", "1").await.unwrap();
        assert_eq!(catalog.digest, "digest of memory:1");
        assert!(catalog.parameter("max_rows").unwrap().dynamic);
    }
    trove.datastores().parameters("memory", "2").await.unwrap();
    assert_eq!((reads.load(Ordering::Relaxed), world.leftovers()), (2, Vec::<String>::new()));
    trove.shut_down().await;

    // The next process removes what the previous one could not.
    let world = World::new();
    world.script(|_, call| match call.name {
        "configuration.catalog" => FaultAction::HangBefore,
        "release_compute" => FaultAction::FailBefore(Error::unavailable("the platform is unavailable")),
        _ => FaultAction::Proceed,
    });
    let store = format!("sqlite:{}", directory.path().join("killed.db").display());
    let trove = start(&world, &store).await;
    let waiting = tokio::spawn({
        let trove = trove.clone();
        async move { trove.datastores().parameters("memory", "1").await }
    });
    while world.leftovers().len() < 3 {
        tokio::time::sleep(crate::POLL_INTERVAL).await;
    }
    trove.shut_down().await;
    assert!(waiting.await.unwrap().is_err());
    assert_eq!(world.leftovers().len(), 3);
    world.script(|_, _| FaultAction::Proceed);
    let trove = start(&world, &store).await;
    while !world.leftovers().is_empty() {
        tokio::time::sleep(crate::POLL_INTERVAL).await;
    }
    trove.shut_down().await;
}

#[tokio::test]
async fn concurrent_changes_of_a_group_are_not_lost() {
    let world = World::new();
    let trove = start(&world, "sqlite::memory:").await;
    let groups = trove.configurations();
    let new = group();
    let id = groups.create(new.clone()).await.unwrap().id;
    assert_eq!(groups.create(new.clone()).await.unwrap().id, id, "a repeated request returns the same group");
    assert_eq!(groups.create(new.set("Max-Rows", 9)).await.unwrap_err().kind(), Kind::Conflict);
    let set = |name: &str, value: i64| groups.set(id, Settings::from([(name.to_owned(), value.into())]));
    let (one, other) = tokio::join!(set("max_rows", 7), set("cache_mib", 8));
    let (settings, lost) = (groups.get(id).await.unwrap().settings, [one, other].into_iter().filter_map(Result::err));
    let errors: Vec<_> = lost.map(|error| error.kind()).collect();
    let applied = usize::from(settings["max_rows"] == 7.into()) + usize::from(settings["cache_mib"] == 8.into());
    assert_eq!((errors, applied), (vec![Kind::Busy; 2 - applied], applied), "a lost update was not reported");
    groups.rename(id, "slow", "for reports").await.unwrap();
    let renamed = groups.get(id).await.unwrap();
    assert_eq!((renamed.name.as_str(), renamed.settings), ("slow", settings));
    trove.shut_down().await;
}
