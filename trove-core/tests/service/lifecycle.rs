//! The life cycle of an instance through the public API.

use std::{path::Path, time::Duration};

use futures_util::future::join_all;
use trove_core::{
    Trove,
    conformance::memory::World,
    control::{Builder, NewInstance},
    error::{Error, Kind},
    events::EventStream,
    guest,
    id::InstanceId,
    layer::FaultAction,
    lifecycle::State,
    model::{Condition, EventKind, Health, NewDatabase, NewUser, OperationStatus, PageRequest, Problem, Status},
    rpc::{Address, InProcess, MessageBroker},
    secret::{ExposeSecret, SecretString},
    time::{Clock, Timestamp},
};

use crate::fixture::{builder, create_active, orders, sqlite_url, start, until};

#[tokio::test]
async fn an_instance_is_created_restarted_stopped_started_and_deleted() {
    let world = World::new();
    let trove = start(&world, "sqlite::memory:").await;
    let mut instance = create_active(&trove).await;
    assert!(world.serves(instance.id, &["app"], &["app"]));

    instance.restart().await.unwrap().active().await.unwrap();
    instance.stop().await.unwrap().wait().await.unwrap();
    assert_eq!(
        (instance.refresh().await.unwrap().status(), instance.health.clone()),
        (Status::Stopped, Health::Stopped)
    );
    assert!(world.is_stopped(instance.id));
    assert_eq!(instance.stop().await.err().unwrap().kind(), Kind::Conflict);
    assert_eq!(instance.accounts().root_enabled().await.unwrap_err().kind(), Kind::Conflict);
    instance.start().await.unwrap().active().await.unwrap();
    assert!(world.serves(instance.id, &["app"], &["app"]));

    instance.delete().await.unwrap().wait().await.unwrap();
    assert_eq!(world.leftovers(), [""; 0]);
    assert_eq!(trove.instance(instance.id).await.err().unwrap().kind(), Kind::NotFound);
    trove.shut_down().await;
}

#[tokio::test]
async fn every_step_emits_an_event() {
    let world = World::new();
    let trove = start(&world, "sqlite::memory:").await;
    let mut events = trove.events();
    let instance = create_active(&trove).await;
    instance.delete().await.unwrap().wait().await.unwrap();
    let emitted = events_until_deleted(&mut events).await;
    let expected = [
        "state Build",
        "step volume 1/4",
        "step endpoint 2/4",
        "step compute 3/4",
        "step prepare 4/4",
        "progress initialize",
        "state Active",
        "ended instance.create/v1 Succeeded",
        "state Deleting",
        "step guest 1/4",
        "step compute 2/4",
        "step endpoint 3/4",
        "step volume 4/4",
        "deleted",
    ];
    let mut rest = emitted.iter();
    for event in expected {
        assert!(rest.any(|emitted| emitted == event), "{event:?} is missing or out of order in {emitted:#?}");
    }
    trove.shut_down().await;
}

async fn events_until_deleted(events: &mut EventStream) -> Vec<String> {
    let mut emitted = Vec::new();
    while let Some(event) = events.next().await {
        emitted.push(match event.kind {
            EventKind::State { state } => format!("state {state:?}"),
            EventKind::Step { step, number, of, .. } => format!("step {step} {number}/{of}"),
            EventKind::Progress { progress, .. } => format!("progress {}", progress.phase),
            EventKind::Ended { operation_kind, status, .. } => format!("ended {operation_kind} {status:?}"),
            EventKind::Deleted => "deleted".to_owned(),
            other => format!("{other:?}"),
        });
        if emitted.last().is_some_and(|event| event == "deleted") {
            break;
        }
    }
    emitted
}

#[tokio::test]
async fn accounts_are_validated_and_changed() {
    let world = World::new();
    let trove = start(&world, "sqlite::memory:").await;
    let accounts = create_active(&trove).await.accounts();
    accounts.create_databases(["crm", "audit"].map(NewDatabase::from)).await.unwrap();
    accounts.create_users([NewUser::new("ann", "pw").granted("crm"), NewUser::new("bob", "pw")]).await.unwrap();
    accounts.grant("bob", &["audit", "crm"]).await.unwrap();
    accounts.revoke("bob", "crm").await.unwrap();
    assert_eq!(accounts.user("bob").await.unwrap().databases, ["audit"]);
    accounts.drop_database("audit").await.unwrap();
    accounts.drop_user("ann").await.unwrap();

    let page = accounts.databases(PageRequest { limit: 1, after: None }).await.unwrap();
    assert_eq!((page.items[0].name.as_str(), page.next.as_deref()), ("app", Some("app")));
    let page = accounts.databases(PageRequest { limit: 5, after: page.next }).await.unwrap();
    assert_eq!((page.items[0].name.as_str(), page.next), ("crm", None));
    let users = accounts.users(PageRequest::default()).await.unwrap();
    assert_eq!(users.items.iter().map(|user| user.user.name.as_str()).collect::<Vec<_>>(), ["app", "bob"]);

    let root = accounts.enable_root().await.unwrap();
    assert_eq!((root.name.as_str(), root.password.expose_secret().len()), ("root", 22));
    assert!(!format!("{root:?}").contains(root.password.expose_secret()));
    accounts.disable_root().await.unwrap();
    assert!(!accounts.root_enabled().await.unwrap());

    let duplicate = accounts.create_users([NewUser::new("new", "pw"), NewUser::new("bob", "pw")]).await.unwrap_err();
    assert_eq!(duplicate.kind(), Kind::Conflict);
    assert_eq!(
        accounts.user("new").await.unwrap_err().kind(),
        Kind::NotFound,
        "users are created together or not at all"
    );
    let results = [
        accounts.create_databases(["trove_x".into()]).await,
        accounts.create_users([NewUser::new("x", "")]).await,
        accounts.set_password("bob", SecretString::from("a\0")).await,
        accounts.grant("bob", &[""]).await,
        accounts.create_databases((0..101).map(|number| NewDatabase::new(format!("d{number}")))).await,
    ];
    for result in results {
        assert_eq!(result.unwrap_err().kind(), Kind::Invalid);
    }
    // A client may have created what the service would not.
    accounts.drop_user("trove_x").await.unwrap();
    accounts.drop_database("\n").await.unwrap();
    let page = PageRequest { limit: 0, after: None };
    assert_eq!(accounts.users(page).await.unwrap_err().kind(), Kind::Invalid);
    trove.shut_down().await;
}

#[tokio::test]
async fn a_repeated_create_request_joins_the_first() {
    let world = World::new();
    let trove = start(&world, "sqlite::memory:").await;
    let id = InstanceId::new_v4();
    let first = trove.create(orders().id(id)).await.unwrap();
    let second = trove.create(orders().id(id)).await.unwrap();
    assert_eq!(first.id(), second.id());
    let error = trove.create(orders().id(id).database("more")).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Conflict);
    second.active().await.unwrap();
    // Instance names are not unique.
    create_active(&trove).await;
    assert_eq!(trove.instances(Some("default"), None, 10).await.unwrap().len(), 2);
    trove.shut_down().await;
}

#[tokio::test]
async fn a_failed_creation_reports_its_reason_and_leaves_no_resources() {
    let world = World::new();
    world.script(|_, call| match call.name {
        "prepare" => FaultAction::FailAfter(Error::not_found("there is no image \"memory:1\"")),
        _ => FaultAction::Proceed,
    });
    let trove = start(&world, "sqlite::memory:").await;
    let create = trove.create(orders()).await.unwrap();
    let error = create.active().await.err().unwrap();
    assert!(error.to_string().contains("no image"), "{error}");
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(create.status().await.unwrap().status, OperationStatus::Failed);
    let instance = trove.instance(create.instance_id()).await.unwrap();
    assert_eq!(instance.status(), Status::Error);
    assert!(instance.reason().unwrap().contains("no image"));
    assert_eq!(world.leftovers(), [""; 0]);
    instance.delete().await.unwrap().wait().await.unwrap();
    trove.shut_down().await;
}

#[tokio::test]
async fn an_instance_can_be_deleted_during_any_step_of_its_creation() {
    for name in ["ensure_volume", "ensure_endpoint", "ensure_compute", "prepare"] {
        let world = World::new();
        let (reached, is_reached) = tokio::sync::oneshot::channel();
        let mut reached = Some(reached);
        world.script(move |_, call| {
            if call.name == name
                && let Some(reached) = reached.take()
            {
                reached.send(()).unwrap();
            }
            FaultAction::Proceed
        });
        let trove = start(&world, "sqlite::memory:").await;
        let create = trove.create(orders()).await.unwrap();
        is_reached.await.unwrap();
        let instance = trove.instance(create.instance_id()).await.unwrap();
        let delete = instance.delete().await.unwrap();
        if let Ok(again) = instance.delete().await {
            assert_eq!(again.id(), delete.id(), "a repeated deletion joins the first");
        }
        delete.wait().await.unwrap();
        assert_eq!(world.leftovers(), [""; 0], "deleted at {name}");
        trove.shut_down().await;
    }
}

/// The guest is asked for 15 s; then the platform releases what is left.
#[tokio::test]
async fn a_guest_that_does_not_remove_its_server_is_deleted_anyway() {
    use Kind::{
        Busy, Cancelled, Conflict, Corrupt, Fenced, Internal, Invalid, NoSpace, NotFound, Timeout, Unavailable,
        Unsupported,
    };
    let kinds = [
        Busy,
        Cancelled,
        Conflict,
        Corrupt,
        Fenced,
        Internal,
        Invalid,
        NoSpace,
        NotFound,
        Timeout,
        Unavailable,
        Unsupported,
    ];
    let refusals = kinds.map(|kind| FaultAction::FailBefore(Error::of(kind, "refused")));
    join_all(refusals.map(|refusal| async move {
        let (world, directory) = (World::new(), tempfile::tempdir().unwrap());
        let trove = start(&world, &sqlite_url(directory.path())).await;
        let instance = create_active(&trove).await;
        let refuse = refusal.clone();
        world.script(move |_, call| if call.name == "remove" { refuse.clone() } else { FaultAction::Proceed });
        instance.delete().await.unwrap().wait().await.unwrap();
        assert_eq!(world.leftovers(), [""; 0], "{refusal:?}");

        world.script(move |_, call| match call.name {
            "remove" => refusal.clone(),
            "prepare" => FaultAction::FailAfter(Error::invalid("no")),
            _ => FaultAction::Proceed,
        });
        trove.create(orders()).await.unwrap().active().await.err().unwrap();
        assert_eq!(world.leftovers(), [""; 0]);
        trove.shut_down().await;
    }))
    .await;
}

#[tokio::test]
async fn a_cancelled_creation_is_rolled_back() {
    let world = World::new();
    world.script(|_, call| match call.name {
        "ensure_compute" => FaultAction::FailBefore(Error::unavailable("the platform is unavailable")),
        _ => FaultAction::Proceed,
    });
    let trove = start(&world, "sqlite::memory:").await;
    let create = trove.create(orders()).await.unwrap();
    let mut events = trove.events();
    while let Some(event) = events.next().await {
        if matches!(event.kind, EventKind::Failed { .. }) {
            break;
        }
    }
    create.cancel().await.unwrap();
    assert_eq!(create.wait().await.unwrap_err().kind(), Kind::Cancelled);
    assert_eq!(world.leftovers(), [""; 0]);
    assert_eq!(create.cancel().await.unwrap_err().kind(), Kind::Conflict);
    trove.shut_down().await;
}

#[tokio::test]
async fn a_failed_server_is_reported_with_its_reason_and_restarted() {
    let world = World::new();
    let trove = start(&world, "sqlite::memory:").await;
    let instance = create_active(&trove).await;
    let mut events = trove.events();
    world.break_server(instance.id, Health::Down(Problem::new(Condition::Killed, "the server was killed")));
    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        if let EventKind::Health { health } = event.kind {
            let healthy = health == Health::Healthy;
            seen.push(health);
            if healthy {
                break;
            }
        }
    }
    assert_eq!(seen, [Health::Down(Problem::new(Condition::Killed, "the server was killed")), Health::Healthy]);
    assert!(world.serves(instance.id, &["app"], &["app"]));

    // A failure that a restart cannot repair is reported, and the data directory is not initialized
    // again.
    let missing = Health::Down(Problem::new(Condition::DataMissing, "the data directory is missing"));
    world.break_server(instance.id, missing);
    let instance = until(&trove, instance.id, |instance| instance.status() == Status::Down).await;
    assert_eq!(instance.reason(), Some("the data directory is missing"));
    assert_eq!(instance.state, State::Active);
    trove.shut_down().await;
}

#[tokio::test]
async fn an_instance_without_reports_has_unknown_status() {
    let world = World::new();
    let clock = Clock::manual(Timestamp::UNIX_EPOCH);
    let no_reports =
        guest::AgentSettings { observe_every: Duration::from_secs(3600), ..guest::AgentSettings::default() };
    let trove =
        builder(&world, "sqlite::memory:").await.clock(clock.clone()).guest_settings(no_reports).start().await.unwrap();
    let ticking = async {
        loop {
            // Advances no faster than real time, so that timeouts do not expire early on a slow machine.
            tokio::time::sleep(Duration::from_millis(1)).await;
            clock.advance(Duration::from_millis(1));
        }
    };
    let mut instance = tokio::select! {
        instance = create_active(&trove) => instance,
        () = ticking => unreachable!(),
    };
    clock.advance(Duration::from_secs(91));
    instance.refresh().await.unwrap();
    assert_eq!(instance.status(), Status::Unknown);
    assert!(instance.reason().unwrap().contains("not reported"));
    trove.shut_down().await;
}

#[tokio::test]
async fn a_restarted_service_recovers_its_instances() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::new();
    let trove = start(&world, &sqlite_url(directory.path())).await;
    let running = create_active(&trove).await.id;
    let stopped = create_active(&trove).await;
    stopped.stop().await.unwrap().wait().await.unwrap();
    trove.shut_down().await;

    let trove = start(&world, &sqlite_url(directory.path())).await;
    let instance = until(&trove, running, |instance| instance.status() == Status::Active).await;
    assert_eq!(trove.instance(stopped.id).await.unwrap().status(), Status::Stopped);
    trove.instance(stopped.id).await.unwrap().start().await.unwrap().active().await.unwrap();
    instance.delete().await.unwrap().wait().await.unwrap();
    trove.shut_down().await;
}

#[tokio::test]
async fn an_unrecoverable_instance_does_not_block_others() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::new();
    let trove = start(&world, &sqlite_url(directory.path())).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(create_active(&trove).await.id);
    }
    trove.shut_down().await;
    // The first instance that is recovered keeps failing.
    let mut broken = None;
    world.script(move |_, call| match call.name {
        "ensure_compute" if broken.replace(()).is_none() => {
            FaultAction::FailBefore(Error::unavailable("temporarily unavailable"))
        }
        _ => FaultAction::Proceed,
    });
    let trove = start(&world, &sqlite_url(directory.path())).await;
    for id in ids {
        until(&trove, id, |instance| instance.status() == Status::Active).await;
    }
    trove.shut_down().await;
}

#[tokio::test]
async fn the_event_stream_ends_with_the_service() {
    let trove = start(&World::new(), "sqlite::memory:").await;
    let mut events = trove.events();
    trove.shut_down().await;
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn pending_passwords_are_stored_sealed_and_deleted_after_use() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::new();
    world.script(|_, call| match call.name {
        "prepare" => FaultAction::FailBefore(Error::unavailable("temporarily unavailable")),
        _ => FaultAction::Proceed,
    });
    let trove = start(&world, &sqlite_url(directory.path())).await;
    let new = NewInstance::new("orders", "memory").user("app", "hunter2-in-clear");
    let create = trove.create(new).await.unwrap();
    let mut events = trove.events();
    while let Some(event) = events.next().await {
        if matches!(event.kind, EventKind::Failed { .. }) {
            break;
        }
    }
    assert!(!any_file_contains(directory.path(), b"hunter2"));
    world.script(|_, _| FaultAction::Proceed);
    create.active().await.unwrap();
    trove.shut_down().await;
    assert!(!any_file_contains(directory.path(), b"hunter2"));
}

fn any_file_contains(directory: &Path, needle: &[u8]) -> bool {
    std::fs::read_dir(directory).unwrap().any(|entry| {
        let content = std::fs::read(entry.unwrap().path()).unwrap();
        content.windows(needle.len()).any(|window| window == needle)
    })
}

#[tokio::test]
async fn starting_an_incomplete_service_names_the_missing_part() {
    let world = World::new();
    let missing = |builder: Builder| async { builder.start().await.err().unwrap().to_string() };
    assert!(missing(Trove::builder()).await.contains("store"));
    assert!(missing(Trove::builder().store("sqlite::memory:")).await.contains("platform"));
    assert!(missing(Trove::builder().store("sqlite::memory:").platform(world.platform())).await.contains("datastore"));
    let twice = builder(&world, "sqlite::memory:").await.datastore(world.driver());
    assert!(missing(twice).await.contains("two datastores"));
}

#[tokio::test]
async fn a_guest_is_attached_once_its_queue_has_no_other_consumer() {
    let (world, broker, id) = (World::new(), InProcess::new(), InstanceId::new_v4());
    let (transport, queue) = (broker.control(), Address::control(id));
    transport.create(&queue).await.unwrap();
    let consumer = transport.open(&queue).await.unwrap();
    let trove = builder(&world, "sqlite::memory:").await.message_broker(broker).start().await.unwrap();
    let mut events = trove.events();
    let creation = trove.create(orders().id(id)).await.unwrap();
    loop {
        if let EventKind::Failed { error, .. } = events.next().await.unwrap().kind {
            assert_eq!(error.kind, Kind::Busy, "{error:?}");
            break;
        }
    }
    drop(consumer);
    creation.active().await.unwrap();
    trove.shut_down().await;
}
