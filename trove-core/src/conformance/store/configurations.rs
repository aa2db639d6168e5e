//! Configuration groups, and their assignment to instances.

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
    cases![
        stale_changes_of_a_group_are_rejected_and_groups_in_use_are_kept,
        instances_with_an_outdated_configuration_are_listed,
    ]
}

async fn stale_changes_of_a_group_are_rejected_and_groups_in_use_are_kept(store: &Store) {
    let created = group("α'; --", 1);
    store.insert_configuration(&created).await.unwrap();
    assert_eq!(store.insert_configuration(&created).await.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(store.configuration(created.id).await.unwrap(), Some(created.clone()));
    let mut changed = created.clone();
    changed.settings.insert("max".to_owned(), 1.5.into());
    (changed.revision, changed.updated_at) = (2, at(9));
    assert!(store.replace_settings(created.id, &changed.settings, 1, at(9)).await.unwrap());
    assert!(
        !store.replace_settings(created.id, &created.settings, 1, at(9)).await.unwrap(),
        "the group was read before the change"
    );
    assert_eq!(store.configuration(created.id).await.unwrap(), Some(changed.clone()));
    changed.name = "β".to_owned();
    assert!(store.rename_configuration(created.id, "β", "", at(9)).await.unwrap());
    assert_eq!(store.configuration(created.id).await.unwrap(), Some(changed.clone()));

    let other = group("second", 2);
    store.insert_configuration(&other).await.unwrap();
    let listed = store.configurations(Some("default"), None, 1).await.unwrap();
    assert_eq!(listed, [changed.clone()]);
    let listed = store.configurations(None, listed.last(), 9).await.unwrap();
    assert_eq!(listed, std::slice::from_ref(&other));
    assert!(store.configurations(Some("other"), None, 9).await.unwrap().is_empty());

    let mut user = instance("user of the group");
    user.configuration = Some(created.id);
    let create = new_operation("test.create/v1");
    assert_eq!(store.insert_instance(&user, "", &create).await.unwrap(), InsertOutcome::Inserted);
    let users = store.instances_of_configuration(created.id, None, 9).await.unwrap();
    assert_eq!(users.iter().map(|user| user.id).collect::<Vec<_>>(), [user.id]);
    assert!(store.instances_of_configuration(created.id, users.last(), 9).await.unwrap().is_empty());
    assert_eq!(store.delete_configuration(created.id).await.unwrap_err().kind(), Kind::Conflict);
    remove(store, &user).await;
    for id in [created.id, created.id, other.id] {
        store.delete_configuration(id).await.unwrap();
    }
    assert_eq!(store.configuration(created.id).await.unwrap(), None);
}

async fn instances_with_an_outdated_configuration_are_listed(store: &Store) {
    let mut shared = group("shared", 1);
    store.insert_configuration(&shared).await.unwrap();
    let (instance, _) = insert(store, "outdated").await;
    finish(store, InstanceChange { assigned_settings: Some(assigned(&shared)), ..InstanceChange::to(State::Active) })
        .await;
    let read = store.instance(instance.id).await.unwrap().unwrap();
    assert_eq!((read.configuration, read.assigned_settings), (Some(shared.id), assigned(&shared)));
    assert!(store.instances_with_outdated_configuration(at(2000), 9).await.unwrap().is_empty());
    shared.revision = 2;
    assert!(store.replace_settings(shared.id, &shared.settings, 1, at(9)).await.unwrap());
    assert_eq!(store.instances_with_outdated_configuration(at(2000), 9).await.unwrap(), [instance.id]);
    assert_eq!(store.instances_with_outdated_configuration(at(0), 9).await.unwrap(), [instance.id]);
    let retry = new_operation("test.configure/v1");
    let states = (State::Active, State::Configuring);
    store.begin_operation(instance.id, states, &retry, false, at(11)).await.unwrap();
    finish(store, InstanceChange::failed(State::Active, "the agent was unavailable", at(1000))).await;
    assert!(
        store.instances_with_outdated_configuration(at(0), 9).await.unwrap().is_empty(),
        "an attempt failed after that time"
    );
    assert_eq!(store.instances_with_outdated_configuration(at(2000), 9).await.unwrap(), [instance.id]);

    // A group that is being applied is in use, and the instance is not outdated.
    let mut configure = new_operation("test.configure/v1");
    configure.configuration = Some(shared.id);
    store.begin_operation(instance.id, states, &configure, false, at(11)).await.unwrap();
    assert!(store.instances_with_outdated_configuration(at(2000), 9).await.unwrap().is_empty());
    finish(store, InstanceChange { assigned_settings: Some(assigned(&shared)), ..InstanceChange::to(State::Active) })
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

    // An operation that ends after its group was deleted does not assign the group.
    let attach = new_operation("test.configure/v1");
    store.begin_operation(instance.id, states, &attach, false, at(13)).await.unwrap();
    finish(store, InstanceChange { assigned_settings: Some(assigned(&shared)), ..InstanceChange::to(State::Active) })
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

fn assigned(group: &ConfigurationGroup) -> AssignedSettings {
    AssignedSettings::from(group)
}
