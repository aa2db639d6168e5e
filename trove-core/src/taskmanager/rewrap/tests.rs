#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{future::poll_fn, pin::pin, task::Poll};

use serde_json::Value as Json;

use super::*;
use crate::{
    flow::Flow,
    id::{InstanceId, OperationId},
    model::{ByteSize, DatastoreVersion, Flavor, Instance, NewUser},
    secret::{ExposeSecret, MasterKey, SecretString},
    taskmanager::{CreateInstance, registry},
    time::Timestamp,
};

/// More than two pages of instances.
const INSTANCES: usize = 2 * PAGE as usize + 20;

struct RewrapFixture {
    store: Store,
    guests: Vec<(InstanceId, GuestIdentity)>,
}

impl RewrapFixture {
    async fn new(keys: &MasterKeys) -> Self {
        let mut fixture = Self { store: Store::connect("sqlite::memory:").await.unwrap(), guests: Vec::new() };
        for _ in 0..INSTANCES {
            let id = InstanceId::new_v4();
            let identity = GuestIdentity::generate(id, 1).unwrap();
            let flavor = Flavor::new("small", ByteSize::default(), 1);
            let size = ByteSize::default();
            let mut instance = Instance::new(id, "orders", "memory", flavor, size, Timestamp::UNIX_EPOCH);
            instance.image = "old.example/memory:1".to_owned();
            let flow = CreateInstance::new(id, Vec::new(), &[NewUser::new("app", id.to_string())], keys).unwrap();
            let row = flow.begin(OperationId::new_v4()).unwrap();
            fixture.store.insert_instance(&instance, "", &row).await.unwrap();
            fixture.store.insert_identity(id, &identity.wrap(keys, id).unwrap()).await.unwrap();
            fixture.guests.push((id, identity));
        }
        let versions = [
            // The version moved to another registry after its login was set; instances still use the former one.
            ("1", "new.example/memory:1", "old.example/memory:1"),
            ("2", "memory:2", "memory:2"),
            ("3", "new.example/memory:3", "gone.example/memory:3"),
        ];
        for (name, image, registry) in versions {
            let password = keys.seal(&login_owner(registry), &SecretString::from("token")).unwrap();
            let stored = StoredVersion { version: version(name, image), password: Some(password), edited: true };
            fixture.store.insert_version(&stored).await.unwrap();
        }
        fixture
    }

    /// Asserts that all secrets are unchanged under these keys.
    async fn assert_open(&self, keys: &MasterKeys) {
        for (id, identity) in &self.guests {
            let stored = self.store.identities(*id).await.unwrap();
            let found = GuestIdentity::unwrap(&stored[0], keys, *id).unwrap();
            let secrets = |of: &GuestIdentity| {
                [of.key.to_text(), of.login.password.clone()].map(|secret| secret.expose_secret().to_owned())
            };
            assert_eq!(secrets(&found), secrets(identity));
        }
        let states = self.store.operation_states(None, u32::MAX).await.unwrap();
        assert_eq!(states.len(), INSTANCES);
        for stored in states {
            let mut state: Json = serde_json::from_str(&stored.state).unwrap();
            let sealed: Sealed = serde_json::from_value(state["users"][0]["password"].take()).unwrap();
            let opened = keys.open(&format!("{}/app", stored.instance), &sealed).unwrap();
            assert_eq!(opened.expose_secret(), stored.instance.to_string());
        }
        for (version, registry) in [("1", "old.example/memory:1"), ("2", "memory:2")] {
            let stored = self.store.version("memory", version).await.unwrap().unwrap();
            let opened = keys.open(&login_owner(registry), &stored.password.unwrap()).unwrap();
            assert_eq!(opened.expose_secret(), "token");
        }
    }
}

fn version(name: &str, image: &str) -> DatastoreVersion {
    DatastoreVersion {
        datastore: "memory".to_owned(),
        name: name.to_owned(),
        number: name.to_owned(),
        image: image.to_owned(),
        username: Some("robot".to_owned()),
        active: true,
        default: false,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

/// Polls a future at most `waits` times after it was pending first; `None` if it was dropped before
/// its end.
async fn interrupted<T>(mut waits: usize, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if waits == 0 => Poll::Ready(None),
        Poll::Pending => {
            waits -= 1;
            Poll::Pending
        }
    })
    .await
}

#[tokio::test]
async fn all_secrets_are_rewrapped_despite_interruptions() {
    let [one, other] = [(); 2].map(|()| MasterKey::generate().unwrap());
    let rings =
        [MasterKeys::new(one.clone()).former(other.clone()), MasterKeys::new(other.clone()).former(one.clone())];
    let (fixture, flows) = (RewrapFixture::new(&rings[0]).await, registry());
    let mut interruptions = 0;
    for round in 0..40 {
        // Alternate between the keys, so that each round has something to rewrap.
        let keys = &rings[round % 2];
        interruptions += usize::from(interrupted(round % 20, rewrap(&fixture.store, keys, &flows)).await.is_none());
        fixture.assert_open(keys).await;
    }
    assert!(interruptions > 10, "only {interruptions} interruptions");

    let alone = MasterKeys::new(MasterKey::generate().unwrap());
    let keys = alone.clone().former(one).former(other);
    rewrap(&fixture.store, &keys, &flows).await.unwrap();
    fixture.assert_open(&alone).await;
    let dropped = fixture.store.version("memory", "3").await.unwrap().unwrap();
    assert_eq!(dropped.password, None, "no known image belongs to the registry of the login");

    // Repeating it changes nothing, with or without the former keys.
    let before = fixture.store.operation_states(None, u32::MAX).await.unwrap();
    for keys in [&keys, &alone] {
        rewrap(&fixture.store, keys, &flows).await.unwrap();
    }
    let after = fixture.store.operation_states(None, u32::MAX).await.unwrap();
    assert!(before.iter().zip(&after).all(|(before, after)| before.state == after.state));
}

#[tokio::test]
async fn corrupt_secrets_are_skipped_and_missing_keys_fail() {
    let [old, new, third] = [(); 3].map(|()| MasterKey::generate().unwrap());
    let (fixture, flows) = (RewrapFixture::new(&MasterKeys::new(old.clone())).await, registry());
    let error = rewrap(&fixture.store, &MasterKeys::new(new.clone()), &flows).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains(&old.id().to_string()), "{error:?}");

    let (id, identity) = &fixture.guests[7];
    let [before] = <[_; 1]>::try_from(fixture.store.identities(*id).await.unwrap()).unwrap();
    let mut after = before.clone();
    after.key = MasterKeys::new(old.clone()).seal("another's", &identity.login.password).unwrap();
    let damage = [Rewrapped::Identity { instance: *id, before, after: after.clone() }];
    fixture.store.rewrap(&damage).await.unwrap();
    assert_eq!(
        fixture.store.rewrap(&damage).await.unwrap_err().kind(),
        Kind::Busy,
        "the stored identity differs from `before`"
    );
    rewrap(&fixture.store, &MasterKeys::new(new.clone()).former(old), &flows).await.unwrap();
    assert_eq!(fixture.store.identities(*id).await.unwrap(), [after]);
    let keys = MasterKeys::new(third).former(new);
    let error = rewrap(&fixture.store, &keys, &flows).await.unwrap_err();
    assert!(error.report().contains(&format!("instance {id}")), "{error:?}");
}
