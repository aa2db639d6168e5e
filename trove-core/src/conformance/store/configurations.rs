//! Configuration groups, and what instances are given of them.

use super::rows::{at, finish, insert, instance, new_operation, remove};
use crate::{
    conformance::case::{Case, cases},
    error::Kind,
    id::ConfigurationId,
    lifecycle::State,
    model::{AssignedSettings, ConfigurationGroup, Settings},
    store::{InsertOutcome, InstanceChange, Store},
};

pub(super) fn cases() -> Vec<Case<Store>> {
    cases![groups_are_changed_by_one_at_a_time_and_kept_while_in_use, instances_that_are_behind_their_group_are_found,]
}

async fn groups_are_changed_by_one_at_a_time_and_kept_while_in_use(store: &Store) {
    let made = group("α'; --", 1);
    store.insert_configuration(&made).await.unwrap();
    assert_eq!(store.insert_configuration(&made).await.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(store.configuration(made.id).await.unwrap(), Some(made.clone()));
    let mut changed = made.clone();
    changed.settings.insert("max".to_owned(), 1.5.into());
    (changed.revision, changed.updated_at) = (2, at(9));
    assert!(store.replace_settings(made.id, &changed.settings, 1, at(9)).await.unwrap());
    assert!(!store.replace_settings(made.id, &made.settings, 1, at(9)).await.unwrap(), "it was read before the change");
    assert_eq!(store.configuration(made.id).await.unwrap(), Some(changed.clone()));
    changed.name = "β".to_owned();
    assert!(store.rename_configuration(made.id, "β", "", at(9)).await.unwrap());
    assert_eq!(store.configuration(made.id).await.unwrap(), Some(changed.clone()));

    let other = group("second", 2);
    store.insert_configuration(&other).await.unwrap();
    let listed = store.configurations(Some("default"), None, 1).await.unwrap();
    assert_eq!(listed, [changed.clone()]);
    let listed = store.configurations(None, listed.last(), 9).await.unwrap();
    assert_eq!(listed, std::slice::from_ref(&other));
    assert!(store.configurations(Some("nobody"), None, 9).await.unwrap().is_empty());

    let mut user = instance("user of the group");
    user.configuration = Some(made.id);
    let create = new_operation("test.create/v1");
    assert_eq!(store.insert_instance(&user, "", &create).await.unwrap(), InsertOutcome::Inserted);
    let users = store.instances_of_configuration(made.id, None, 9).await.unwrap();
    assert_eq!(users.iter().map(|user| user.id).collect::<Vec<_>>(), [user.id]);
    assert!(store.instances_of_configuration(made.id, users.last(), 9).await.unwrap().is_empty());
    assert_eq!(store.delete_configuration(made.id).await.unwrap_err().kind(), Kind::Conflict);
    remove(store, &user).await;
    for id in [made.id, made.id, other.id] {
        store.delete_configuration(id).await.unwrap();
    }
    assert_eq!(store.configuration(made.id).await.unwrap(), None);
}

async fn instances_that_are_behind_their_group_are_found(store: &Store) {
    let mut shared = group("shared", 1);
    store.insert_configuration(&shared).await.unwrap();
    let (instance, _) = insert(store, "behind").await;
    finish(store, InstanceChange { assigned_settings: Some(given(&shared)), ..InstanceChange::to(State::Active) })
        .await;
    let read = store.instance(instance.id).await.unwrap().unwrap();
    assert_eq!((read.configuration, read.assigned_settings), (Some(shared.id), given(&shared)));
    assert!(store.instances_with_outdated_configuration(at(2000), 9).await.unwrap().is_empty());
    shared.revision = 2;
    assert!(store.replace_settings(shared.id, &shared.settings, 1, at(9)).await.unwrap());
    assert_eq!(store.instances_with_outdated_configuration(at(2000), 9).await.unwrap(), [instance.id]);
    assert_eq!(store.instances_with_outdated_configuration(at(0), 9).await.unwrap(), [instance.id]);
    let retry = new_operation("test.configure/v1");
    let states = (State::Active, State::Configuring);
    store.begin_operation(instance.id, states, &retry, false, at(11)).await.unwrap();
    finish(store, InstanceChange::failed(State::Active, "it was away", at(1000))).await;
    assert!(store.instances_with_outdated_configuration(at(0), 9).await.unwrap().is_empty(), "it failed since");
    assert_eq!(store.instances_with_outdated_configuration(at(2000), 9).await.unwrap(), [instance.id]);

    // While it is given it, it counts as used and not as behind.
    let mut configure = new_operation("test.configure/v1");
    configure.configuration = Some(shared.id);
    store.begin_operation(instance.id, states, &configure, false, at(11)).await.unwrap();
    assert!(store.instances_with_outdated_configuration(at(2000), 9).await.unwrap().is_empty());
    finish(store, InstanceChange { assigned_settings: Some(given(&shared)), ..InstanceChange::to(State::Active) })
        .await;
    assert!(store.instances_with_outdated_configuration(at(2000), 9).await.unwrap().is_empty());
    let detach = new_operation("test.configure/v1");
    store.begin_operation(instance.id, states, &detach, false, at(12)).await.unwrap();
    assert_eq!(store.delete_configuration(shared.id).await.unwrap_err().kind(), Kind::Conflict);
    finish(
        store,
        InstanceChange { assigned_settings: Some(AssignedSettings::default()), ..InstanceChange::to(State::Active) },
    )
    .await;
    store.delete_configuration(shared.id).await.unwrap();

    // A group that is gone is not brought back by an operation that failed.
    let attach = new_operation("test.configure/v1");
    store.begin_operation(instance.id, states, &attach, false, at(13)).await.unwrap();
    finish(store, InstanceChange { assigned_settings: Some(given(&shared)), ..InstanceChange::to(State::Active) })
        .await;
    assert_eq!(store.instance(instance.id).await.unwrap().unwrap().configuration, None);
    remove(store, &instance).await;
}

fn group(name: &str, second: i64) -> ConfigurationGroup {
    ConfigurationGroup {
        id: ConfigurationId::new_v4(),
        project: "default".to_owned(),
        name: name.to_owned(),
        description: String::new(),
        datastore: "memory".to_owned(),
        version: "1".to_owned(),
        settings: Settings::from([("max".to_owned(), 3.into()), ("word".to_owned(), "x'y".into())]),
        revision: 1,
        created_at: at(second),
        updated_at: at(second),
    }
}

fn given(group: &ConfigurationGroup) -> AssignedSettings {
    AssignedSettings::from(group)
}
