//! What every store keeps to. Each case makes instances of its own, so that they can share one store.

mod registry;

use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    error::Kind,
    id::{InstanceId, OperationId},
    lifecycle::State,
    model::{
        ByteSize, Condition, Disk, Endpoint, Event, EventKind, Flavor, Health, Instance, Observed, OperationError,
        OperationStatus, Problem, SettingsState, mib,
    },
    store::{Admitted, Cancel, Entry, InstanceChange, Journal, NewOperation, Record, Report, Store},
    time::Timestamp,
};

/// Runs all cases, one after the other. The store holds nothing else, and nothing else uses it meanwhile.
///
/// # Panics
///
/// Where the store does not keep to the contract.
pub async fn suite(store: &Store) {
    instances_are_read_back_as_written(store).await;
    creation_is_recognised_when_repeated(store).await;
    lists_are_paged_in_order_of_creation(store).await;
    a_state_is_left_only_once(store).await;
    operations_of_an_instance_run_one_after_the_other(store).await;
    a_lease_keeps_others_out_until_it_ends(store).await;
    a_former_owner_is_fenced(store).await;
    many_owners_never_share_a_claim(store).await;
    waiting_operations_wake_when_due(store).await;
    a_change_lands_with_its_journal_row(store).await;
    the_end_drops_what_was_asked_and_removal_drops_all(store).await;
    stuck_operations_resume_or_are_abandoned(store).await;
    cancelling_reaches_the_owner(store).await;
    reports_change_health_and_settings_and_nothing_else(store).await;
    registry::suite(store).await;
}

async fn instances_are_read_back_as_written(store: &Store) {
    let (instance, _) = insert(store, "α'; DROP TABLE instances; --").await;
    assert_eq!(store.instance(instance.id).await.unwrap(), Some(instance.clone()));
    assert_eq!(store.instance(InstanceId::new_v4()).await.unwrap(), None);
    remove(store, &instance).await;
}

async fn creation_is_recognised_when_repeated(store: &Store) {
    let (instance, operation) = insert(store, "twice").await;
    let again = new_operation("test.create/v1");
    let joined = store.insert_instance(&instance, "twice", &again).await.unwrap();
    assert_eq!(joined, Admitted::Joined(operation));
    let error = store.insert_instance(&instance, "another request", &again).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert_eq!(store.operations(instance.id).await.unwrap().len(), 1);
    remove(store, &instance).await;
}

async fn lists_are_paged_in_order_of_creation(store: &Store) {
    let mut made = Vec::new();
    for number in 0..5 {
        let mut instance = instance("page");
        instance.project = if number == 4 { "other" } else { "pages" }.to_owned();
        // Two of the same moment, to be told apart by id.
        instance.created_at = at(1000 + number / 2);
        store.insert_instance(&instance, "page", &new_operation("test.create/v1")).await.unwrap();
        made.push(instance);
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = store.instances(Some("pages"), after.as_ref(), 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        seen.extend(page.into_iter().map(|instance| (instance.created_at, instance.id)));
    }
    let mut expected: Vec<_> = made[..4].iter().map(|instance| (instance.created_at, instance.id)).collect();
    expected.sort();
    assert_eq!(seen, expected);
    assert_eq!(store.instances(None, None, 100).await.unwrap().len(), 5);
    for instance in &made {
        remove(store, instance).await;
    }
}

async fn a_state_is_left_only_once(store: &Store) {
    let (instance, _) = insert(store, "race").await;
    finish(store, &instance, State::Active).await;
    let restart = new_operation("test.restart/v1");
    let states = (State::Active, State::Restarting);
    assert_eq!(store.begin_operation(instance.id, states, &restart, false, at(2)).await.unwrap(), Admitted::Begun);
    let late = new_operation("test.stop/v1");
    assert_eq!(
        store.begin_operation(instance.id, (State::Active, State::Stopping), &late, false, at(2)).await.unwrap(),
        Admitted::Raced
    );
    let again = new_operation("test.restart/v1");
    let same = (State::Restarting, State::Restarting);
    let joined = store.begin_operation(instance.id, same, &again, false, at(2)).await.unwrap();
    assert_eq!(joined, Admitted::Joined(restart.id));
    let busy = store.begin_operation(instance.id, same, &late, false, at(2)).await.unwrap_err();
    assert_eq!(busy.kind(), Kind::Busy);
    remove(store, &instance).await;
}

async fn operations_of_an_instance_run_one_after_the_other(store: &Store) {
    let (instance, create) = insert(store, "order").await;
    let delete = new_operation("test.delete/v1");
    let states = (State::Build, State::Deleting);
    store.begin_operation(instance.id, states, &delete, true, at(2)).await.unwrap();
    let first = claim(store, "a", 10).await.unwrap();
    assert_eq!((first.id, first.cancel), (create, Some(Cancel::Supersede)));
    assert!(claim(store, "b", 10).await.is_none(), "the deletion waits for what it ends");
    assert_eq!(store.next_due().await.unwrap(), Some(at(20)), "what waits for another is not due");
    let pause =
        Record { lease_until: None, wake_at: at(500), ..row(OperationStatus::Running, InstanceChange::default()) };
    store.record(first.id, first.instance, first.epoch, &pause).await.unwrap();
    let first = claim(store, "a", 10).await.unwrap();
    assert_eq!(first.id, create, "what is to end does not sleep first");
    record(store, &first, OperationStatus::Cancelled, InstanceChange::default()).await;
    let second = claim(store, "b", 10).await.unwrap();
    assert_eq!(second.id, delete.id);
    assert!(second.epoch > first.epoch, "each claim has a higher epoch, across operations too");
    remove(store, &instance).await;
}

async fn a_lease_keeps_others_out_until_it_ends(store: &Store) {
    let (instance, _) = insert(store, "lease").await;
    let first = claim(store, "a", 10).await.unwrap();
    assert!(claim(store, "b", 19).await.is_none());
    assert_eq!(store.next_due().await.unwrap(), Some(at(20)));
    store.renew(first.id, first.epoch, at(40)).await.unwrap();
    assert!(claim(store, "b", 39).await.is_none());
    let second = claim(store, "b", 40).await.unwrap();
    assert_eq!(second.id, first.id);
    assert_eq!(second.epoch, first.epoch + 1);
    assert_eq!(store.instance(instance.id).await.unwrap().unwrap().epoch, second.epoch);
    remove(store, &instance).await;
}

async fn a_former_owner_is_fenced(store: &Store) {
    let (instance, _) = insert(store, "fence").await;
    let former = claim(store, "a", 10).await.unwrap();
    let owner = claim(store, "b", 100).await.unwrap();
    assert_eq!(store.renew(former.id, former.epoch, at(999)).await.unwrap_err().kind(), Kind::Fenced);
    let late = row(OperationStatus::Succeeded, InstanceChange::to(State::Active));
    let error = store.record(former.id, instance.id, former.epoch, &late).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Fenced);
    assert_eq!(store.instance(instance.id).await.unwrap().unwrap().state, State::Build, "nothing of it landed");
    record(store, &owner, OperationStatus::Succeeded, InstanceChange::to(State::Active)).await;
    let after_end = store.record(owner.id, instance.id, owner.epoch, &late).await.unwrap_err();
    assert_eq!(after_end.kind(), Kind::Fenced);
    remove(store, &instance).await;
}

async fn many_owners_never_share_a_claim(store: &Store) {
    let mut instances = Vec::new();
    for _ in 0..20 {
        instances.push(insert(store, "many").await.0);
    }
    let mut owners = JoinSet::new();
    for owner in 0..8 {
        let store = store.clone();
        owners.spawn(async move {
            let mut claimed = Vec::new();
            // A claim that another wins comes back empty, so one more look each.
            let mut misses = 0;
            while misses < 20 {
                match claim(&store, &format!("owner {owner}"), 10).await {
                    Some(entry) => claimed.push(entry.id),
                    None => misses += 1,
                }
            }
            claimed
        });
    }
    let mut claimed: Vec<OperationId> = owners.join_all().await.into_iter().flatten().collect();
    claimed.sort();
    let count = claimed.len();
    claimed.dedup();
    assert_eq!((count, claimed.len()), (20, 20), "each is claimed, and once");
    for instance in &instances {
        remove(store, instance).await;
    }
}

async fn waiting_operations_wake_when_due(store: &Store) {
    let (instance, _) = insert(store, "wait").await;
    let entry = claim(store, "a", 10).await.unwrap();
    let pause =
        Record { lease_until: None, wake_at: at(500), ..row(OperationStatus::Running, InstanceChange::default()) };
    store.record(entry.id, instance.id, entry.epoch, &pause).await.unwrap();
    assert_eq!(store.next_due().await.unwrap(), Some(at(500)));
    assert!(claim(store, "b", 499).await.is_none());
    let woken = claim(store, "b", 500).await.unwrap();
    assert_eq!((woken.step.as_str(), woken.attempt), ("second", 3));
    assert_eq!(woken.error, Some(OperationError::new(Kind::NoSpace, "why")));
    assert_eq!(woken.state, json!({"kept": "ünïcode"}));
    assert_eq!(woken.step_since, at(7));
    remove(store, &instance).await;
}

async fn a_change_lands_with_its_journal_row(store: &Store) {
    let (instance, _) = insert(store, "change").await;
    let entry = claim(store, "a", 10).await.unwrap();
    let endpoint = Endpoint { host: "::1".to_owned(), port: 65535 };
    let change = InstanceChange { endpoint: Some(Some(endpoint.clone())), ..InstanceChange::default() };
    record(store, &entry, OperationStatus::Running, change).await;
    let read = store.instance(instance.id).await.unwrap().unwrap();
    assert_eq!((read.endpoint, read.state), (Some(endpoint), State::Build), "what is not named stays");
    let failed = InstanceChange { endpoint: Some(None), ..InstanceChange::failed(State::Error, "broken", at(9)) };
    record(store, &entry, OperationStatus::Failed, failed).await;
    let read = store.instance(instance.id).await.unwrap().unwrap();
    assert_eq!((read.endpoint, read.state, read.fault.unwrap().message.as_str()), (None, State::Error, "broken"));
    remove(store, &instance).await;
}

async fn the_end_drops_what_was_asked_and_removal_drops_all(store: &Store) {
    let (instance, id) = insert(store, "end").await;
    finish(store, &instance, State::Active).await;
    let ended = store.operation(id).await.unwrap().unwrap();
    assert_eq!(ended.status, OperationStatus::Succeeded);
    assert!(claim(store, "b", 10_000).await.is_none(), "what has ended is not claimed");
    assert_eq!(store.next_due().await.unwrap(), None);
    remove(store, &instance).await;
    assert_eq!(store.instance(instance.id).await.unwrap(), None);
    assert_eq!(store.operation(id).await.unwrap(), None);
}

async fn stuck_operations_resume_or_are_abandoned(store: &Store) {
    let (instance, id) = insert(store, "stuck").await;
    let entry = claim(store, "a", 10).await.unwrap();
    assert!(!store.resume_operation(id, at(11)).await.unwrap(), "it is not stuck");
    let stuck = Record { undoing: true, ..row(OperationStatus::Stuck, InstanceChange::default()) };
    store.record(entry.id, instance.id, entry.epoch, &stuck).await.unwrap();
    assert!(claim(store, "b", 10_000).await.is_none());
    assert!(store.resume_operation(id, at(12)).await.unwrap());
    let resumed = claim(store, "b", 13).await.unwrap();
    assert_eq!((resumed.undoing, resumed.attempt), (true, 0));
    assert_eq!(resumed.state, json!({"kept": "ünïcode"}), "it still knows what it was asked");
    store.record(entry.id, instance.id, resumed.epoch, &stuck).await.unwrap();
    let delete = new_operation("test.delete/v1");
    let states = (State::Build, State::Deleting);
    store.begin_operation(instance.id, states, &delete, true, at(14)).await.unwrap();
    assert!(!store.resume_operation(id, at(14)).await.unwrap(), "another has begun since");
    assert!(store.abandon_operation(id, at(14)).await.unwrap());
    assert!(!store.resume_operation(id, at(15)).await.unwrap());
    assert_eq!(store.operation(id).await.unwrap().unwrap().status, OperationStatus::Failed);
    remove(store, &instance).await;
}

async fn cancelling_reaches_the_owner(store: &Store) {
    let (instance, id) = insert(store, "cancel").await;
    let entry = claim(store, "a", 10).await.unwrap();
    assert_eq!(store.renew(id, entry.epoch, at(20)).await.unwrap(), None);
    assert!(store.cancel_operation(id).await.unwrap());
    assert_eq!(store.renew(id, entry.epoch, at(20)).await.unwrap(), Some(Cancel::Undo));
    record(store, &entry, OperationStatus::Cancelled, InstanceChange::default()).await;
    assert!(!store.cancel_operation(id).await.unwrap(), "it has ended");
    remove(store, &instance).await;
}

async fn reports_change_health_and_settings_and_nothing_else(store: &Store) {
    let (instance, _) = insert(store, "report").await;
    let down = Health::Down(Problem::new(Condition::OutOfMemory, "it was killed"));
    let disk = Disk { used: Some(mib(3)), free: ByteSize::bytes(u64::from(u32::MAX) * 7) };
    let observed = Observed::new(down.clone())
        .server_version(Some("17.1".to_owned()))
        .disk(Some(disk))
        .settings(Some(SettingsState { restart_required: vec!["cache".to_owned()], rejected: None }));
    let report = Report { instance: instance.id, observed, at: at(50) };
    let unknown = Report { instance: InstanceId::new_v4(), ..report.clone() };
    let changed = store.report(&[report.clone(), unknown]).await.unwrap();
    let waiting = SettingsState { restart_required: vec!["cache".to_owned()], rejected: None };
    let expected = [
        Event::new(at(50), instance.id, EventKind::Health { health: down.clone() }),
        Event::new(at(50), instance.id, EventKind::Settings { state: waiting.clone() }),
    ];
    assert_eq!(changed, expected);
    assert!(store.report(std::slice::from_ref(&report)).await.unwrap().is_empty(), "the same again is no change");
    let read = store.instance(instance.id).await.unwrap().unwrap();
    let expected = Instance {
        health: down,
        server_version: Some("17.1".to_owned()),
        disk: Some(disk),
        settings: waiting,
        reported_at: Some(at(50)),
        ..instance.clone()
    };
    assert_eq!(read, expected, "and nothing else");
    remove(store, &instance).await;
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("a time in range")
}

fn instance(name: &str) -> Instance {
    let flavor = Flavor::new("small", mib(512), 1);
    let mut instance = Instance::new(InstanceId::new_v4(), name, "memory", flavor, mib(1024), at(1));
    instance.version = "1".to_owned();
    instance.version_number = "1".to_owned();
    instance.image = "memory:1".to_owned();
    instance.public = true;
    instance
}

fn new_operation(kind: &'static str) -> NewOperation {
    NewOperation {
        id: OperationId::new_v4(),
        kind,
        step: "first",
        state: json!({"kept": "ünïcode"}),
        configuration: None,
        seen: None,
    }
}

fn row(status: OperationStatus, change: InstanceChange) -> Record {
    Record {
        state: json!({"kept": "ünïcode"}),
        status,
        undoing: false,
        step: "second".to_owned(),
        step_since: at(7),
        attempt: 3,
        error: Some(OperationError::new(Kind::NoSpace, "why")),
        lease_until: (!status.is_final()).then(|| at(20)),
        wake_at: at(8),
        at: at(8),
        change,
    }
}

async fn insert(store: &Store, name: &str) -> (Instance, OperationId) {
    let (instance, operation) = (instance(name), new_operation("test.create/v1"));
    assert_eq!(store.insert_instance(&instance, name, &operation).await.unwrap(), Admitted::Begun);
    (instance, operation.id)
}

/// Claims at this second, for ten.
async fn claim(store: &Store, owner: &str, second: i64) -> Option<Entry> {
    store.claim(owner, at(second), at(second + 10)).await.unwrap()
}

async fn record(store: &Store, entry: &Entry, status: OperationStatus, change: InstanceChange) {
    store.record(entry.id, entry.instance, entry.epoch, &row(status, change)).await.unwrap();
}

async fn finish(store: &Store, instance: &Instance, state: State) {
    let entry = claim(store, "finisher", 10).await.unwrap();
    assert_eq!(entry.instance, instance.id);
    record(store, &entry, OperationStatus::Succeeded, InstanceChange::to(state)).await;
}

/// Removes an instance with its operations by ending one more operation on it.
async fn remove(store: &Store, instance: &Instance) {
    let state = store.instance(instance.id).await.unwrap().unwrap().state;
    let last = new_operation("test.remove/v1");
    store.begin_operation(instance.id, (state, State::Deleting), &last, true, at(900)).await.unwrap();
    let gone = InstanceChange { remove: true, ..InstanceChange::default() };
    while let Some(entry) = claim(store, "remover", 100_000).await {
        let change = if entry.id == last.id { gone.clone() } else { InstanceChange::default() };
        record(store, &entry, OperationStatus::Succeeded, change).await;
        if entry.id == last.id {
            return;
        }
    }
    panic!("the instance could not be removed");
}
