//! Sample rows, and helpers that write and read them.

use serde_json::json;

use crate::{
    error::Kind,
    id::{InstanceId, OperationId},
    lifecycle::State,
    model::{Flavor, Instance, OperationError, OperationStatus, mib},
    store::{InsertOutcome, InstanceChange, Journal, JournalEntry, JournalRecord, NewOperation, Store},
    time::Timestamp,
};

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("a time in range")
}

pub(super) fn instance(name: &str) -> Instance {
    let flavor = Flavor::new("small", mib(512), 1);
    let mut instance = Instance::new(InstanceId::new_v4(), name, "memory", flavor, mib(1024), at(1));
    instance.version = "1".to_owned();
    instance.version_number = "1".to_owned();
    instance.image = "memory:1".to_owned();
    instance.public = true;
    instance
}

pub(super) fn new_operation(kind: &'static str) -> NewOperation {
    NewOperation {
        id: OperationId::new_v4(),
        kind,
        step: "first",
        state: json!({"kept": "ünïcode"}),
        configuration: None,
        expected_epoch: None,
    }
}

pub(super) fn row(status: OperationStatus, change: InstanceChange) -> JournalRecord {
    JournalRecord {
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

pub(super) async fn insert(store: &Store, name: &str) -> (Instance, OperationId) {
    let (instance, operation) = (instance(name), new_operation("test.create/v1"));
    assert_eq!(store.insert_instance(&instance, name, &operation).await.unwrap(), InsertOutcome::Inserted);
    (instance, operation.id)
}

/// Claims an operation at this second, with a lease of 10 s.
pub(super) async fn claim(store: &Store, owner: &str, second: i64) -> Option<JournalEntry> {
    store.claim(owner, at(second), at(second + 10)).await.unwrap()
}

pub(super) async fn record(store: &Store, entry: &JournalEntry, status: OperationStatus, change: InstanceChange) {
    store.record(entry.id, entry.instance, entry.epoch, &row(status, change)).await.unwrap();
}

/// Completes the operation that is due, with this change.
pub(super) async fn finish(store: &Store, change: InstanceChange) {
    let entry = claim(store, "finisher", 1000).await.unwrap();
    record(store, &entry, OperationStatus::Succeeded, change).await;
}

/// Removes an instance with its operations by ending one more operation on it.
pub(super) async fn remove(store: &Store, instance: &Instance) {
    let state = store.instance(instance.id).await.unwrap().unwrap().state;
    let last = new_operation("test.remove/v1");
    store.begin_operation(instance.id, (state, State::Deleting), &last, true, at(900)).await.unwrap();
    let removal = InstanceChange { remove: true, ..InstanceChange::default() };
    while let Some(entry) = claim(store, "remover", 100_000).await {
        let change = if entry.id == last.id { removal.clone() } else { InstanceChange::default() };
        record(store, &entry, OperationStatus::Succeeded, change).await;
        if entry.id == last.id {
            return;
        }
    }
    panic!("the instance could not be removed");
}

/// Deletes all rows that a failed case left behind.
pub(super) async fn delete_all(store: &Store) {
    for instance in store.instances(None, None, 1000).await.unwrap() {
        remove(store, &instance).await;
    }
    for group in store.configurations(None, None, 1000).await.unwrap() {
        store.delete_configuration(group.id).await.unwrap();
    }
    for stored in store.versions(None).await.unwrap() {
        store.delete_version(&stored.version.datastore, &stored.version.name).await.unwrap();
    }
    for id in store.scratch_servers().await.unwrap() {
        store.delete_scratch_server(id).await.unwrap();
    }
}
