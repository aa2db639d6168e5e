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

/// More than two pages.
const INSTANCES: usize = 2 * PAGE as usize + 20;

struct Bed {
    store: Store,
    guests: Vec<(InstanceId, GuestIdentity)>,
}

impl Bed {
    async fn new(keys: &MasterKeys) -> Self {
        let mut bed = Self { store: Store::connect("sqlite::memory:").await.unwrap(), guests: Vec::new() };
        for _ in 0..INSTANCES {
            let id = InstanceId::new_v4();
            let identity = GuestIdentity::generate(id, 1).unwrap();
            let flavor = Flavor::new("small", ByteSize::default(), 1);
            let size = ByteSize::default();
            let mut instance = Instance::new(id, "orders", "memory", flavor, size, Timestamp::UNIX_EPOCH);
            instance.image = "old.example/memory:1".to_owned();
            let flow = CreateInstance::new(id, Vec::new(), &[NewUser::new("app", id.to_string())], keys).unwrap();
            let row = flow.begin(OperationId::new_v4()).unwrap();
            bed.store.insert_instance(&instance, "", &row).await.unwrap();
            bed.store.insert_identity(id, &identity.wrap(keys, id).unwrap()).await.unwrap();
            bed.guests.push((id, identity));
        }
        let versions = [
            // Since its login was given it has moved to another registry; instances still are of the one before.
            ("1", "new.example/memory:1", "old.example/memory:1"),
            ("2", "memory:2", "memory:2"),
            ("3", "new.example/memory:3", "gone.example/memory:3"),
        ];
        for (name, image, registry) in versions {
            let password = keys.seal(&login_owner(registry), &SecretString::from("token")).unwrap();
            let stored = StoredVersion { version: version(name, image), password: Some(password), edited: true };
            bed.store.insert_version(&stored).await.unwrap();
        }
        bed
    }

    /// All secrets are what they were, for who has these keys.
    async fn assert_open(&self, keys: &MasterKeys) {
        for (id, identity) in &self.guests {
            let stored = self.store.identities(*id).await.unwrap();
            let found = GuestIdentity::unwrap(&stored[0], keys, *id).unwrap();
            let secrets = |of: &GuestIdentity| {
                [of.key.to_text(), of.login.password.clone()].map(|it| it.expose_secret().to_owned())
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

/// What comes of work that dies where it waits for the so-manieth time.
async fn dying<T>(mut waits: usize, work: impl Future<Output = T>) -> Option<T> {
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
async fn all_is_sealed_anew_whenever_it_dies_and_goes_on() {
    let [one, other] = [(); 2].map(|()| MasterKey::generate().unwrap());
    let rings =
        [MasterKeys::new(one.clone()).former(other.clone()), MasterKeys::new(other.clone()).former(one.clone())];
    let (bed, flows) = (Bed::new(&rings[0]).await, registry());
    let mut deaths = 0;
    for round in 0..40 {
        // Each time the other way, so that each time there is something to do.
        let keys = &rings[round % 2];
        deaths += usize::from(dying(round % 20, reseal(&bed.store, keys, &flows)).await.is_none());
        bed.assert_open(keys).await;
    }
    assert!(deaths > 10, "it died only {deaths} times");

    let alone = MasterKeys::new(MasterKey::generate().unwrap());
    let keys = alone.clone().former(one).former(other);
    reseal(&bed.store, &keys, &flows).await.unwrap();
    bed.assert_open(&alone).await;
    let dropped = bed.store.version("memory", "3").await.unwrap().unwrap();
    assert_eq!(dropped.password, None, "no image is of the registry that it was for");

    // The same again finds nothing to do, and neither does who never had the former key.
    let before = bed.store.operation_states(None, u32::MAX).await.unwrap();
    for keys in [&keys, &alone] {
        reseal(&bed.store, keys, &flows).await.unwrap();
    }
    let after = bed.store.operation_states(None, u32::MAX).await.unwrap();
    assert!(before.iter().zip(&after).all(|(before, after)| before.state == after.state));
}

#[tokio::test]
async fn what_is_damaged_keeps_nothing_else_from_it_and_a_missing_key_does() {
    let [old, new, third] = [(); 3].map(|()| MasterKey::generate().unwrap());
    let (bed, flows) = (Bed::new(&MasterKeys::new(old.clone())).await, registry());
    let error = reseal(&bed.store, &MasterKeys::new(new.clone()), &flows).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains(&old.id().to_string()), "{error:?}");

    let (id, identity) = &bed.guests[7];
    let [before] = <[_; 1]>::try_from(bed.store.identities(*id).await.unwrap()).unwrap();
    let mut after = before.clone();
    after.key = MasterKeys::new(old.clone()).seal("another's", &identity.login.password).unwrap();
    let damage = [Rewrapped::Identity { instance: *id, before, after: after.clone() }];
    bed.store.rewrap(&damage).await.unwrap();
    assert_eq!(bed.store.rewrap(&damage).await.unwrap_err().kind(), Kind::Busy, "it is not what it was");
    reseal(&bed.store, &MasterKeys::new(new.clone()).former(old), &flows).await.unwrap();
    assert_eq!(bed.store.identities(*id).await.unwrap(), [after]);
    let keys = MasterKeys::new(third).former(new);
    let error = reseal(&bed.store, &keys, &flows).await.unwrap_err();
    assert!(error.report().contains(&format!("instance {id}")), "{error:?}");
}
