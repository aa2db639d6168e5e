//! Instances, their reports, root history, guest identities, and scratch servers.

use super::rows::{at, finish, insert, instance, new_operation, remove};
use crate::{
    conformance::case::{Case, cases},
    error::Kind,
    guest::SealedGuestIdentity,
    id::InstanceId,
    lifecycle::State,
    model::{
        ByteSize, Condition, Disk, Event, EventKind, Flavor, Health, Instance, Observed, Problem, RootChange,
        SettingsState, mib,
    },
    secret::{MasterKey, MasterKeys, SecretString},
    store::{EarlierHealth, InsertOutcome, InstanceChange, InstanceRelease, InstanceReport, Store},
};

pub(super) fn cases() -> Vec<Case<Store>> {
    cases![
        instances_are_read_back_as_written,
        a_repeated_creation_joins_the_first,
        lists_are_paged_in_order_of_creation,
        only_one_operation_leaves_a_state,
        reports_change_only_observed_fields,
        a_batch_of_reports_tells_which_health_changed,
        release_and_flavor_change_with_the_journal_row,
        root_history_is_removed_with_its_instance,
        scratch_servers_are_recorded_until_deleted,
        guest_identities_are_written_once_and_removed_with_their_instance,
    ]
}

async fn instances_are_read_back_as_written(store: &Store) {
    let (instance, _) = insert(store, "α'; DROP TABLE instances; --").await;
    assert_eq!(store.instance(instance.id).await.unwrap(), Some(instance.clone()));
    assert_eq!(store.instance(InstanceId::new_v4()).await.unwrap(), None);
    remove(store, &instance).await;
}

async fn a_repeated_creation_joins_the_first(store: &Store) {
    let (instance, operation) = insert(store, "twice").await;
    let again = new_operation("test.create/v1");
    let joined = store.insert_instance(&instance, "twice", &again).await.unwrap();
    assert_eq!(joined, InsertOutcome::Existing(operation));
    let error = store.insert_instance(&instance, "another request", &again).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert_eq!(store.operations(instance.id).await.unwrap().len(), 1);
    remove(store, &instance).await;
}

async fn lists_are_paged_in_order_of_creation(store: &Store) {
    let mut created = Vec::new();
    for number in 0..5 {
        let mut instance = instance("page");
        instance.project = if number == 4 { "other" } else { "pages" }.to_owned();
        // Pairs have the same time and are ordered by id.
        instance.created_at = at(1000 + number / 2);
        store.insert_instance(&instance, "page", &new_operation("test.create/v1")).await.unwrap();
        created.push(instance);
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = store.instances(Some("pages"), after.as_ref(), 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        seen.extend(page.into_iter().map(|instance| (instance.created_at, instance.id)));
    }
    let mut expected: Vec<_> = created[..4].iter().map(|instance| (instance.created_at, instance.id)).collect();
    expected.sort();
    assert_eq!(seen, expected);
    assert_eq!(store.instances(None, None, 100).await.unwrap().len(), 5);
    for instance in &created {
        remove(store, instance).await;
    }
}

async fn only_one_operation_leaves_a_state(store: &Store) {
    let (instance, _) = insert(store, "race").await;
    finish(store, InstanceChange::to(State::Active)).await;
    let restart = new_operation("test.restart/v1");
    let states = (State::Active, State::Restarting);
    assert_eq!(
        store.begin_operation(instance.id, states, &restart, false, at(2)).await.unwrap(),
        InsertOutcome::Inserted
    );
    let late = new_operation("test.stop/v1");
    assert_eq!(
        store.begin_operation(instance.id, (State::Active, State::Stopping), &late, false, at(2)).await.unwrap(),
        InsertOutcome::StateChanged
    );
    let again = new_operation("test.restart/v1");
    let same = (State::Restarting, State::Restarting);
    let joined = store.begin_operation(instance.id, same, &again, false, at(2)).await.unwrap();
    assert_eq!(joined, InsertOutcome::Existing(restart.id));
    let busy = store.begin_operation(instance.id, same, &late, false, at(2)).await.unwrap_err();
    assert_eq!(busy.kind(), Kind::Busy);
    remove(store, &instance).await;
}

async fn reports_change_only_observed_fields(store: &Store) {
    let (instance, _) = insert(store, "report").await;
    let down = Health::Down(Problem::new(Condition::OutOfMemory, "the server was killed"));
    let disk = Disk { used: Some(mib(3)), free: ByteSize::bytes(u64::from(u32::MAX) * 7) };
    let observed = Observed::new(down.clone())
        .server_version(Some("17.1".to_owned()))
        .disk(Some(disk))
        .settings(Some(SettingsState { restart_required: vec!["cache".to_owned()], rejected: None }));
    let report = InstanceReport { instance: instance.id, observed, at: at(50), earlier: None };
    let unknown = InstanceReport { instance: InstanceId::new_v4(), ..report.clone() };
    let changed = store.report(&[report.clone(), unknown]).await.unwrap();
    let settings = SettingsState { restart_required: vec!["cache".to_owned()], rejected: None };
    let expected = [
        Event::new(at(50), instance.id, EventKind::Health { health: down.clone() }),
        Event::new(at(50), instance.id, EventKind::Settings { state: settings.clone() }),
    ];
    assert_eq!(changed, expected);
    assert!(store.report(std::slice::from_ref(&report)).await.unwrap().is_empty(), "an equal report is not a change");
    let read = store.instance(instance.id).await.unwrap().unwrap();
    let expected = Instance {
        health: down,
        server_version: Some("17.1".to_owned()),
        disk: Some(disk),
        settings,
        reported_at: Some(at(50)),
        ..instance.clone()
    };
    assert_eq!(read, expected);
    remove(store, &instance).await;
}

async fn a_batch_of_reports_tells_which_health_changed(store: &Store) {
    let (instance, _) = insert(store, "report").await;
    let down = Health::Down(Problem::new(Condition::Exited, "it exited with code 1"));
    let earlier = Some(EarlierHealth { health: down.clone(), at: at(51) });
    let recovered =
        InstanceReport { instance: instance.id, observed: Observed::new(Health::Healthy), at: at(52), earlier };
    let (other, _) = insert(store, "other report").await;
    let stopped = Observed::new(Health::Stopped);
    let of_other = InstanceReport { instance: other.id, observed: stopped, at: at(52), earlier: None };
    let mut changed = store.report(&[of_other, recovered]).await.unwrap();
    changed.sort_by_key(|event| (event.instance != instance.id, event.at));
    let expected = [
        Event::new(at(51), instance.id, EventKind::Health { health: down }),
        Event::new(at(52), instance.id, EventKind::Health { health: Health::Healthy }),
        Event::new(at(52), other.id, EventKind::Health { health: Health::Stopped }),
    ];
    assert_eq!(changed, expected);
    for instance in [instance, other] {
        remove(store, &instance).await;
    }
}

async fn release_and_flavor_change_with_the_journal_row(store: &Store) {
    let (instance, _) = insert(store, "changed").await;
    let (version, number, image) = ("2-hardened".to_owned(), "2.5".to_owned(), "memory@sha256:2".to_owned());
    let release = InstanceRelease { version, number, image };
    let flavor = Flavor::new("large", mib(4096), 4);
    let change = InstanceChange {
        release: Some(release.clone()),
        flavor: Some(flavor.clone()),
        ..InstanceChange::to(State::Active)
    };
    finish(store, change).await;
    let read = store.instance(instance.id).await.unwrap().unwrap();
    assert_eq!((InstanceRelease::from(&read), read.flavor), (release, flavor));
    remove(store, &instance).await;
}

async fn root_history_is_removed_with_its_instance(store: &Store) {
    let (instance, _) = insert(store, "rooted").await;
    let changes = [(20, false), (10, true)].map(|(second, enabled)| RootChange { at: at(second), enabled });
    for change in changes {
        store.insert_root_change(instance.id, change).await.unwrap();
    }
    assert_eq!(store.root_history(instance.id).await.unwrap(), changes);
    remove(store, &instance).await;
    assert!(store.root_history(instance.id).await.unwrap().is_empty());
    assert_eq!(store.insert_root_change(instance.id, changes[0]).await.unwrap_err().kind(), Kind::Conflict);
}

async fn scratch_servers_are_recorded_until_deleted(store: &Store) {
    let id = InstanceId::new_v4();
    store.insert_scratch_server(id).await.unwrap();
    assert_eq!(store.scratch_servers().await.unwrap(), [id]);
    store.delete_scratch_server(id).await.unwrap();
    store.delete_scratch_server(id).await.unwrap();
    assert!(store.scratch_servers().await.unwrap().is_empty());
}

async fn guest_identities_are_written_once_and_removed_with_their_instance(store: &Store) {
    let keys = MasterKeys::new(MasterKey::generate().unwrap());
    let identity = |number: u32| {
        let seal = |text: &str| keys.seal("guest", &SecretString::from(text)).unwrap();
        SealedGuestIdentity { number, key: seal("key"), password: seal("password"), delivered: number == 1 }
    };
    let (instance, _) = insert(store, "guest").await;
    let (first, mut second) = (identity(1), identity(2));
    for stored in [&second, &first, &identity(1)] {
        store.insert_identity(instance.id, stored).await.unwrap();
    }
    assert_eq!(store.identities(instance.id).await.unwrap(), [first.clone(), second.clone()]);
    store.mark_identity_delivered(instance.id, 2).await.unwrap();
    second.delivered = true;
    assert_eq!(store.identities(instance.id).await.unwrap(), [first, second.clone()]);
    for _ in 0..2 {
        store.remove_identity(instance.id, 1).await.unwrap();
        assert_eq!(store.identities(instance.id).await.unwrap(), [second.clone()]);
    }
    assert_eq!(store.identities(InstanceId::new_v4()).await.unwrap(), []);
    remove(store, &instance).await;
    assert_eq!(store.identities(instance.id).await.unwrap(), []);
}
