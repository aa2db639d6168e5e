//! The journal: claims, leases, fencing and the end of operations.

use serde_json::json;
use tokio::task::JoinSet;

use super::rows::{at, claim, finish, insert, new_operation, record, remove, row};
use crate::{
    conformance::case::{Case, cases},
    error::Kind,
    id::OperationId,
    lifecycle::State,
    model::{Endpoint, OperationError, OperationStatus},
    store::{CancelMode, InstanceChange, Journal, JournalRecord, Store},
};

pub(super) fn cases() -> Vec<Case<Store>> {
    cases![
        operations_of_an_instance_run_in_sequence,
        a_lease_excludes_other_owners_until_it_expires,
        a_former_owner_is_fenced,
        concurrent_owners_never_share_a_claim,
        waiting_operations_are_claimed_when_due,
        an_instance_change_is_written_with_its_journal_row,
        ended_operations_are_not_claimed_and_are_removed_with_their_instance,
        stuck_operations_can_be_resumed_or_abandoned,
        a_cancellation_reaches_the_owner,
    ]
}

async fn operations_of_an_instance_run_in_sequence(store: &Store) {
    let (instance, create) = insert(store, "order").await;
    let delete = new_operation("test.delete/v1");
    let states = (State::Build, State::Deleting);
    store.begin_operation(instance.id, states, &delete, true, at(2)).await.unwrap();
    let first = claim(store, "a", 10).await.unwrap();
    assert_eq!((first.id, first.cancel), (create, Some(CancelMode::Supersede)));
    assert!(claim(store, "b", 10).await.is_none(), "the deletion waits until the creation has ended");
    assert_eq!(store.next_due().await.unwrap(), Some(at(20)), "an operation that waits for another one is not due");
    let pause = JournalRecord {
        lease_until: None,
        wake_at: at(500),
        ..row(OperationStatus::Running, InstanceChange::default())
    };
    store.record(first.id, first.instance, first.epoch, &pause).await.unwrap();
    let first = claim(store, "a", 10).await.unwrap();
    assert_eq!(first.id, create, "a superseded operation is due at once");
    record(store, &first, OperationStatus::Cancelled, InstanceChange::default()).await;
    let second = claim(store, "b", 10).await.unwrap();
    assert_eq!(second.id, delete.id);
    assert!(second.epoch > first.epoch, "each claim has a higher epoch, across operations too");
    remove(store, &instance).await;
}

async fn a_lease_excludes_other_owners_until_it_expires(store: &Store) {
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
    assert_eq!(store.instance(instance.id).await.unwrap().unwrap().state, State::Build, "nothing was written");
    record(store, &owner, OperationStatus::Succeeded, InstanceChange::to(State::Active)).await;
    let after_end = store.record(owner.id, instance.id, owner.epoch, &late).await.unwrap_err();
    assert_eq!(after_end.kind(), Kind::Fenced);
    remove(store, &instance).await;
}

async fn concurrent_owners_never_share_a_claim(store: &Store) {
    let mut instances = Vec::new();
    for _ in 0..20 {
        instances.push(insert(store, "many").await.0);
    }
    let mut owners = JoinSet::new();
    for owner in 0..8 {
        let store = store.clone();
        owners.spawn(async move {
            let mut claimed = Vec::new();
            // A claim that another owner wins returns nothing, so each owner tries as often as there are
            // operations.
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
    assert_eq!((count, claimed.len()), (20, 20), "each operation is claimed exactly once");
    for instance in &instances {
        remove(store, instance).await;
    }
}

async fn waiting_operations_are_claimed_when_due(store: &Store) {
    let (instance, _) = insert(store, "wait").await;
    let entry = claim(store, "a", 10).await.unwrap();
    let pause = JournalRecord {
        lease_until: None,
        wake_at: at(500),
        ..row(OperationStatus::Running, InstanceChange::default())
    };
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

async fn an_instance_change_is_written_with_its_journal_row(store: &Store) {
    let (instance, _) = insert(store, "change").await;
    let entry = claim(store, "a", 10).await.unwrap();
    let endpoint = Endpoint { host: "::1".to_owned(), port: 65535 };
    let change = InstanceChange { endpoint: Some(Some(endpoint.clone())), ..InstanceChange::default() };
    record(store, &entry, OperationStatus::Running, change).await;
    let read = store.instance(instance.id).await.unwrap().unwrap();
    assert_eq!((read.endpoint, read.state), (Some(endpoint), State::Build), "fields that the change leaves out stay");
    let failed = InstanceChange { endpoint: Some(None), ..InstanceChange::failed(State::Error, "broken", at(9)) };
    record(store, &entry, OperationStatus::Failed, failed).await;
    let read = store.instance(instance.id).await.unwrap().unwrap();
    assert_eq!((read.endpoint, read.state, read.fault.unwrap().message.as_str()), (None, State::Error, "broken"));
    remove(store, &instance).await;
}

async fn ended_operations_are_not_claimed_and_are_removed_with_their_instance(store: &Store) {
    let (instance, id) = insert(store, "end").await;
    finish(store, InstanceChange::to(State::Active)).await;
    let ended = store.operation(id).await.unwrap().unwrap();
    assert_eq!(ended.status, OperationStatus::Succeeded);
    assert!(claim(store, "b", 10_000).await.is_none(), "an ended operation is not claimed");
    assert_eq!(store.next_due().await.unwrap(), None);
    remove(store, &instance).await;
    assert_eq!(store.instance(instance.id).await.unwrap(), None);
    assert_eq!(store.operation(id).await.unwrap(), None);
}

async fn stuck_operations_can_be_resumed_or_abandoned(store: &Store) {
    let (instance, id) = insert(store, "stuck").await;
    let entry = claim(store, "a", 10).await.unwrap();
    assert!(!store.resume_operation(id, at(11)).await.unwrap(), "the operation is not stuck");
    let stuck = JournalRecord { undoing: true, ..row(OperationStatus::Stuck, InstanceChange::default()) };
    store.record(entry.id, instance.id, entry.epoch, &stuck).await.unwrap();
    assert!(claim(store, "b", 10_000).await.is_none());
    assert!(store.resume_operation(id, at(12)).await.unwrap());
    let resumed = claim(store, "b", 13).await.unwrap();
    assert_eq!((resumed.undoing, resumed.attempt), (true, 0));
    assert_eq!(resumed.state, json!({"kept": "ünïcode"}), "the state is kept");
    store.record(entry.id, instance.id, resumed.epoch, &stuck).await.unwrap();
    let delete = new_operation("test.delete/v1");
    let states = (State::Build, State::Deleting);
    store.begin_operation(instance.id, states, &delete, true, at(14)).await.unwrap();
    assert!(!store.resume_operation(id, at(14)).await.unwrap(), "another operation has begun since");
    assert!(store.abandon_operation(id, at(14)).await.unwrap());
    assert!(!store.resume_operation(id, at(15)).await.unwrap());
    assert_eq!(store.operation(id).await.unwrap().unwrap().status, OperationStatus::Failed);
    remove(store, &instance).await;
}

async fn a_cancellation_reaches_the_owner(store: &Store) {
    let (instance, id) = insert(store, "cancel").await;
    let entry = claim(store, "a", 10).await.unwrap();
    assert_eq!(store.renew(id, entry.epoch, at(20)).await.unwrap(), None);
    assert!(store.cancel_operation(id).await.unwrap());
    assert_eq!(store.renew(id, entry.epoch, at(20)).await.unwrap(), Some(CancelMode::Undo));
    record(store, &entry, OperationStatus::Cancelled, InstanceChange::default()).await;
    assert!(!store.cancel_operation(id).await.unwrap(), "the operation has ended");
    remove(store, &instance).await;
}
