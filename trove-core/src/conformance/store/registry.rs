//! Versions, catalogues, configuration groups and what instances are given of them.

use super::{at, claim, insert, instance, new_operation, record, remove};
use crate::{
    error::Kind,
    id::{ConfigurationId, InstanceId},
    lifecycle::State,
    model::{
        Catalogue, ConfigurationGroup, DatastoreVersion, Flavor, GivenSettings, OperationStatus, Parameter,
        ParameterKind, RootChange, Settings, mib,
    },
    secret::{ExposeSecret, MasterKey, SecretString},
    store::{Admitted, InstanceChange, InstanceRelease, Store, StoredVersion},
};

pub(super) async fn suite(store: &Store) {
    versions_have_one_default_and_are_kept_while_in_use(store).await;
    catalogues_are_kept_by_digest(store).await;
    groups_are_changed_by_one_at_a_time_and_kept_while_in_use(store).await;
    instances_that_are_behind_their_group_are_found(store).await;
    what_an_instance_runs_is_changed_with_its_journal(store).await;
    the_history_of_root_goes_with_its_instance(store).await;
    places_on_trial_are_remembered(store).await;
}

async fn versions_have_one_default_and_are_kept_while_in_use(store: &Store) {
    let key = MasterKey::generate().unwrap();
    let password = key.seal("memory/1", &SecretString::from("token")).unwrap();
    let first = StoredVersion { password: Some(password), version: version("1", 1), edited: true };
    store.insert_version(&first).await.unwrap();
    assert_eq!(store.insert_version(&first).await.unwrap_err().kind(), Kind::Conflict);
    let read = store.version("memory", "1").await.unwrap().unwrap();
    assert!(read.version.default, "the first is the default");
    let opened = key.open("memory/1", read.password.as_ref().unwrap()).unwrap();
    assert_eq!(opened.expose_secret(), "token");

    let mut second = StoredVersion { version: version("2", 2), password: None, edited: false };
    store.insert_version(&second).await.unwrap();
    assert_eq!(names(store).await, ["1", "2"]);
    second.version.default = true;
    second.version.image = "memory:2b".to_owned();
    second.version.active = false;
    second.version.updated_at = at(3);
    assert!(!store.update_version(&second, at(1)).await.unwrap(), "it was changed since");
    assert!(store.update_version(&second, at(2)).await.unwrap());
    assert_eq!(store.version("memory", "2").await.unwrap().unwrap(), second);
    assert_eq!(names(store).await, ["2", "1"]);
    assert!(!store.version("memory", "1").await.unwrap().unwrap().version.default);
    let unknown = StoredVersion { version: version("3", 1), password: None, edited: false };
    assert!(!store.update_version(&unknown, at(1)).await.unwrap());

    let (instance, _) = insert(store, "of version 1").await;
    assert_eq!(store.delete_version("memory", "1").await.unwrap_err().kind(), Kind::Conflict);
    remove(store, &instance).await;
    assert!(store.delete_version("memory", "1").await.unwrap());
    assert!(!store.delete_version("memory", "1").await.unwrap());
    assert!(store.delete_version("memory", "2").await.unwrap());
    assert!(store.versions(None).await.unwrap().is_empty());
}

async fn catalogues_are_kept_by_digest(store: &Store) {
    let mut parameter = Parameter::new("max", ParameterKind::Integer { min: i64::MIN, max: u64::MAX });
    parameter.default = Some("ünïcode".to_owned());
    let real = Parameter::new("part", ParameterKind::Float { min: -0.1, max: 1e300 });
    let mut catalogue = Catalogue::new("sha256:1", "1.0", vec![parameter, real]);
    store.keep_catalogue("memory", &catalogue).await.unwrap();
    catalogue.server_version = "1.1".to_owned();
    store.keep_catalogue("memory", &catalogue).await.unwrap();
    assert_eq!(store.catalogue("memory", "sha256:1").await.unwrap(), Some(catalogue));
    assert_eq!(store.catalogue("other", "sha256:1").await.unwrap(), None);
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
    assert_eq!(store.insert_instance(&user, "", &create).await.unwrap(), Admitted::Begun);
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
    finish(store, InstanceChange { given: Some(given(&shared)), ..InstanceChange::to(State::Active) }).await;
    let read = store.instance(instance.id).await.unwrap().unwrap();
    assert_eq!((read.configuration, read.given), (Some(shared.id), given(&shared)));
    assert!(store.instances_behind(at(2000), 9).await.unwrap().is_empty());
    shared.revision = 2;
    assert!(store.replace_settings(shared.id, &shared.settings, 1, at(9)).await.unwrap());
    assert_eq!(store.instances_behind(at(2000), 9).await.unwrap(), [instance.id]);
    assert_eq!(store.instances_behind(at(0), 9).await.unwrap(), [instance.id]);
    let retry = new_operation("test.configure/v1");
    let states = (State::Active, State::Configuring);
    store.begin_operation(instance.id, states, &retry, false, at(11)).await.unwrap();
    finish(store, InstanceChange::failed(State::Active, "it was away", at(1000))).await;
    assert!(store.instances_behind(at(0), 9).await.unwrap().is_empty(), "it failed since");
    assert_eq!(store.instances_behind(at(2000), 9).await.unwrap(), [instance.id]);

    // While it is given it, it counts as used and not as behind.
    let mut configure = new_operation("test.configure/v1");
    configure.configuration = Some(shared.id);
    store.begin_operation(instance.id, states, &configure, false, at(11)).await.unwrap();
    assert!(store.instances_behind(at(2000), 9).await.unwrap().is_empty());
    finish(store, InstanceChange { given: Some(given(&shared)), ..InstanceChange::to(State::Active) }).await;
    assert!(store.instances_behind(at(2000), 9).await.unwrap().is_empty());
    let detach = new_operation("test.configure/v1");
    store.begin_operation(instance.id, states, &detach, false, at(12)).await.unwrap();
    assert_eq!(store.delete_configuration(shared.id).await.unwrap_err().kind(), Kind::Conflict);
    finish(store, InstanceChange { given: Some(GivenSettings::default()), ..InstanceChange::to(State::Active) }).await;
    store.delete_configuration(shared.id).await.unwrap();

    // A group that is gone is not brought back by an operation that failed.
    let attach = new_operation("test.configure/v1");
    store.begin_operation(instance.id, states, &attach, false, at(13)).await.unwrap();
    finish(store, InstanceChange { given: Some(given(&shared)), ..InstanceChange::to(State::Active) }).await;
    assert_eq!(store.instance(instance.id).await.unwrap().unwrap().configuration, None);
    remove(store, &instance).await;
}

async fn what_an_instance_runs_is_changed_with_its_journal(store: &Store) {
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

async fn the_history_of_root_goes_with_its_instance(store: &Store) {
    let (instance, _) = insert(store, "rooted").await;
    let changes = [(20, false), (10, true)].map(|(second, enabled)| RootChange { at: at(second), enabled });
    for change in changes {
        store.note_root(instance.id, change).await.unwrap();
    }
    assert_eq!(store.root_history(instance.id).await.unwrap(), changes);
    remove(store, &instance).await;
    assert!(store.root_history(instance.id).await.unwrap().is_empty());
    assert_eq!(store.note_root(instance.id, changes[0]).await.unwrap_err().kind(), Kind::Conflict);
}

async fn places_on_trial_are_remembered(store: &Store) {
    let id = InstanceId::new_v4();
    store.begin_trial(id).await.unwrap();
    assert_eq!(store.trials().await.unwrap(), [id]);
    store.end_trial(id).await.unwrap();
    store.end_trial(id).await.unwrap();
    assert!(store.trials().await.unwrap().is_empty());
}

fn version(name: &str, second: i64) -> DatastoreVersion {
    DatastoreVersion {
        datastore: "memory".to_owned(),
        name: name.to_owned(),
        number: name.to_owned(),
        image: format!("memory:{name}"),
        username: None,
        active: true,
        default: false,
        created_at: at(second),
        updated_at: at(second),
    }
}

async fn names(store: &Store) -> Vec<String> {
    store.versions(Some("memory")).await.unwrap().into_iter().map(|stored| stored.version.name).collect()
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

fn given(group: &ConfigurationGroup) -> GivenSettings {
    GivenSettings::from(group)
}

/// Ends what is due with this change.
async fn finish(store: &Store, change: InstanceChange) {
    let entry = claim(store, "finisher", 1000).await.unwrap();
    record(store, &entry, OperationStatus::Succeeded, change).await;
}
