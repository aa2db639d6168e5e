//! Sealed secrets, and their replacement when the master key is rotated.

use super::{
    rows::{at, finish, insert, remove},
    versions::version,
};
use crate::{
    conformance::case::{Case, cases},
    error::Kind,
    guest::SealedGuestIdentity,
    id::InstanceId,
    lifecycle::State,
    secret::{MasterKey, MasterKeys, Sealed, SecretString},
    store::{InstanceChange, Rewrapped, Store, StoredVersion},
};

pub(super) fn cases() -> Vec<Case<Store>> {
    cases![
        identities_sealed_by_another_key_are_listed_in_pages,
        rewrapped_secrets_are_compared_and_swapped_in_one_transaction,
        operation_states_are_listed_until_the_operation_ends,
    ]
}

struct Keys(MasterKeys);

impl Keys {
    fn generate() -> Self {
        Self(MasterKeys::new(MasterKey::generate().unwrap()))
    }

    fn seal(&self) -> Sealed {
        self.0.seal("owner", &SecretString::from("secret")).unwrap()
    }

    fn identity(&self, number: u32) -> SealedGuestIdentity {
        SealedGuestIdentity { number, key: self.seal(), password: self.seal(), delivered: true }
    }
}

async fn identities_sealed_by_another_key_are_listed_in_pages(store: &Store) {
    let (old, new) = (Keys::generate(), Keys::generate());
    let (mut instances, mut expected) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (instance, _) = insert(store, "sealed").await;
        let half = SealedGuestIdentity { password: old.seal(), ..new.identity(2) };
        for identity in [old.identity(1), half, new.identity(3)] {
            store.insert_identity(instance.id, &identity).await.unwrap();
            if identity.number < 3 {
                expected.push((instance.id, identity.number));
            }
        }
        assert_eq!(store.images_in_use("memory").await.unwrap(), ["memory:1"]);
        instances.push(instance);
    }
    expected.sort_by_key(|(id, number)| (id.to_string(), *number));
    let mut found: Vec<(InstanceId, u32)> = Vec::new();
    loop {
        let key = new.0.current().id();
        let page = store.identities_not_sealed_by(key, found.last().copied(), 4).await.unwrap();
        found.extend(page.iter().map(|(id, identity)| (*id, identity.number)));
        if page.is_empty() {
            break;
        }
    }
    assert_eq!(found, expected);
    for instance in &instances {
        remove(store, instance).await;
    }
}

async fn rewrapped_secrets_are_compared_and_swapped_in_one_transaction(store: &Store) {
    let (old, new) = (Keys::generate(), Keys::generate());
    let (instance, _) = insert(store, "sealed").await;
    let (before, after) = (old.identity(1), new.identity(1));
    store.insert_identity(instance.id, &before).await.unwrap();
    let login = StoredVersion { version: version("1", 1), password: Some(old.seal()), edited: true };
    store.insert_version(&login).await.unwrap();
    let state = store.operation_states(None, 10).await.unwrap().remove(0);
    let rewrapped = |version: &str, after_login: Option<Sealed>| {
        [
            Rewrapped::Identity { instance: instance.id, before: before.clone(), after: after.clone() },
            Rewrapped::State { before: state.clone(), after: "[1]".to_owned() },
            Rewrapped::RegistryPassword {
                datastore: "memory".to_owned(),
                version: version.to_owned(),
                before: login.password.clone().unwrap(),
                after: after_login,
            },
        ]
    };
    let error = store.rewrap(&rewrapped("2", None)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Busy);
    assert_eq!(
        store.identities(instance.id).await.unwrap(),
        std::slice::from_ref(&before),
        "nothing is written if one value has changed"
    );

    let sealed = new.seal();
    store.rewrap(&rewrapped("1", Some(sealed.clone()))).await.unwrap();
    assert_eq!(store.identities(instance.id).await.unwrap(), std::slice::from_ref(&after));
    assert_eq!(store.operation_states(None, 10).await.unwrap()[0].state, "[1]");
    let read = store.version("memory", "1").await.unwrap().unwrap();
    assert_eq!((read.password, read.version.updated_at), (Some(sealed.clone()), at(1)));
    assert_eq!(
        store.rewrap(&rewrapped("1", None)).await.unwrap_err().kind(),
        Kind::Busy,
        "the identity differs from `before`"
    );

    let (datastore, version) = ("memory".to_owned(), "1".to_owned());
    let dropped = [Rewrapped::RegistryPassword { datastore, version, before: sealed, after: None }];
    store.rewrap(&dropped).await.unwrap();
    assert_eq!(store.version("memory", "1").await.unwrap().unwrap().password, None);
    remove(store, &instance).await;
    assert!(store.delete_version("memory", "1").await.unwrap());
}

async fn operation_states_are_listed_until_the_operation_ends(store: &Store) {
    let (first, operation) = insert(store, "first").await;
    let (second, other) = insert(store, "second").await;
    let mut expected = [operation, other];
    expected.sort_by_key(ToString::to_string);
    let found = store.operation_states(None, 1).await.unwrap();
    assert_eq!((found.len(), found[0].operation, found[0].kind.as_str()), (1, expected[0], "test.create/v1"));
    let rest = store.operation_states(Some(expected[0]), 10).await.unwrap();
    assert_eq!((rest.len(), rest[0].operation), (1, expected[1]));
    for _ in 0..2 {
        finish(store, InstanceChange::to(State::Active)).await;
    }
    assert!(store.operation_states(None, 10).await.unwrap().is_empty());
    remove(store, &first).await;
    remove(store, &second).await;
}
