//! Datastore versions and parameter catalogs.

use super::rows::{at, insert, remove};
use crate::{
    conformance::case::{Case, cases},
    error::Kind,
    model::{DatastoreVersion, Parameter, ParameterCatalog, ParameterKind},
    secret::{ExposeSecret, MasterKey, MasterKeys, SecretString},
    store::{Store, StoredVersion},
};

pub(super) fn cases() -> Vec<Case<Store>> {
    cases![one_version_is_the_default_and_versions_in_use_are_kept, catalogs_are_cached_by_digest,]
}

async fn one_version_is_the_default_and_versions_in_use_are_kept(store: &Store) {
    let keys = MasterKeys::new(MasterKey::generate().unwrap());
    let password = keys.seal("memory/1", &SecretString::from("token")).unwrap();
    let first = StoredVersion { password: Some(password), version: version("1", 1), edited: true };
    store.insert_version(&first).await.unwrap();
    assert_eq!(store.insert_version(&first).await.unwrap_err().kind(), Kind::Conflict);
    let read = store.version("memory", "1").await.unwrap().unwrap();
    assert!(read.version.default, "the first version is the default");
    let opened = keys.open("memory/1", read.password.as_ref().unwrap()).unwrap();
    assert_eq!(opened.expose_secret(), "token");

    let mut second = StoredVersion { version: version("2", 2), password: None, edited: false };
    store.insert_version(&second).await.unwrap();
    assert_eq!(names(store).await, ["1", "2"]);
    second.version.default = true;
    second.version.image = "memory:2b".to_owned();
    second.version.active = false;
    second.version.updated_at = at(3);
    assert!(!store.update_version(&second, at(1)).await.unwrap(), "the version was changed since");
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

async fn catalogs_are_cached_by_digest(store: &Store) {
    let mut parameter = Parameter::new("max", ParameterKind::Integer { min: i64::MIN, max: u64::MAX });
    parameter.default = Some("ünïcode".to_owned());
    let real = Parameter::new("part", ParameterKind::Float { min: -0.1, max: 1e300 });
    let mut catalog = ParameterCatalog::new("sha256:1", "1.0", vec![parameter, real]);
    store.cache_catalog("memory", &catalog).await.unwrap();
    catalog.server_version = "1.1".to_owned();
    store.cache_catalog("memory", &catalog).await.unwrap();
    assert_eq!(store.cached_catalog("memory", "sha256:1").await.unwrap(), Some(catalog));
    assert_eq!(store.cached_catalog("other", "sha256:1").await.unwrap(), None);
}

pub(super) fn version(name: &str, second: i64) -> DatastoreVersion {
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
