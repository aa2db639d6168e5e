//! The keys, and what else a guest is told.

use std::{collections::HashSet, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use memchr::memmem;
use trove_core::{
    model::NewUser,
    rpc::{Address, DropReason, InstanceKey},
    secret::ExposeSecret,
};
use uuid::Uuid;

use super::{
    frame::{CAST, Frame, HEADER_BYTES, WAKE},
    scene::{Home, Scene},
    wire::{Loot, Seen},
};

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_random_and_of_one_instance_only() {
    const KEYS: usize = 4096;
    let mut ones = [0; 256];
    let mut seen = HashSet::new();
    for _ in 0..KEYS {
        let key = InstanceKey::generate(1).unwrap();
        let bytes = BASE64_STANDARD.decode(key.to_text().expose_secret()).unwrap();
        for (bit, count) in ones.iter_mut().enumerate() {
            *count += usize::from(bytes[bit / 8] >> (bit % 8) & 1);
        }
        assert!(bytes.len() == 32 && seen.insert(bytes));
    }
    // Ten standard deviations on either side.
    for count in ones {
        assert!(count.abs_diff(KEYS / 2) < 320, "{ones:?}");
    }

    let scene = Scene::new(Home::Apart).await;
    let [stolen, innocent] = [scene.stolen.id, scene.innocent.id].map(|id| Loot::of(&scene.apart, id));
    assert_eq!((stolen.key.len(), innocent.key.len()), (32, 32));
    assert_ne!(stolen.key, innocent.key);
    assert_ne!(stolen.login.password.expose_secret(), innocent.login.password.expose_secret());
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_identity_is_over_once_it_was_rotated() {
    let mut scene = Scene::new(Home::Apart).await;
    let own = scene.stolen.id;
    let lie = scene.lie("formerly").await.to_string();
    for loot in [own, scene.innocent.id].map(|id| Loot::of(&scene.apart, id)) {
        for secret in [&loot.key, loot.login.password.expose_secret().as_bytes()] {
            is_not_stored(scene.store.path(), secret);
        }
    }
    scene.stolen.rotate_identity().await.unwrap().wait().await.unwrap();
    scene.is_heard().await;
    assert!(scene.broker.connect(&scene.loot.login).await.is_err());
    let before = scene.count(DropReason::UnknownKey);
    let next = Frame { key: scene.loot.number, ..scene.next(own, CAST).await };
    for frame in [next, Frame { kind: WAKE, receiver: [0; 16], ..next }] {
        scene.put(Address::control(own), &frame.seal(&scene.loot.key, lie.as_bytes())).await;
    }
    scene.is_heard().await;
    assert_eq!(scene.count(DropReason::UnknownKey), before + 2);
    scene.is_unharmed().await;
    scene.end().await;
}

/// Shows that no file of the store has this, neither as it is nor as text.
fn is_not_stored(store: &Path, secret: &[u8]) {
    let hex = secret.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let base64 = BASE64_STANDARD.encode(secret);
    for file in std::fs::read_dir(store).unwrap() {
        let content = std::fs::read(file.unwrap().path()).unwrap();
        for form in [secret, hex.as_bytes(), hex.to_uppercase().as_bytes(), base64.trim_end_matches('=').as_bytes()] {
            assert!(memmem::find(&content, form).is_none());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_told_what_is_its_own_only() {
    let scene = Scene::new(Home::Apart).await;
    let password = Uuid::new_v4().to_string();
    for instance in [&scene.stolen, &scene.innocent] {
        let accounts = instance.accounts();
        accounts.create_users([NewUser::new("more", format!("{password} of {}", instance.name))]).await.unwrap();
        accounts.drop_user("more").await.unwrap();
        accounts.enable_root().await.unwrap();
        instance.restart().await.unwrap().active().await.unwrap();
    }
    let mut told = scene.loot.text.clone();
    for seen in scene.tap.all().await.into_iter().filter(|seen| seen.to == Address::guest(scene.stolen.id)) {
        let text = Frame::open(&scene.loot.key, &seen.frame).expect("it is sealed with another key");
        told += std::str::from_utf8(&text).unwrap();
        told.push('\n');
    }
    assert!(told.contains(&format!("{password} of stolen")), "{told}");
    let other = Loot::of(&scene.apart, scene.innocent.id);
    let master = std::fs::read_to_string(scene.store.path().join("trove.db.key")).unwrap();
    for (name, secret) in [
        ("the other instance", scene.innocent.id.to_string()),
        ("its users' password", format!("{password} of innocent")),
        ("its key", BASE64_STANDARD.encode(&other.key)),
        ("its login", other.login.password.expose_secret().to_owned()),
        ("the service's login", scene.broker.control_login().password.expose_secret().to_owned()),
        ("the master key", master.trim().to_owned()),
    ] {
        assert!(!told.contains(&secret), "a guest is told {name}");
    }
    // What the other is told its key does not open, and nobody reads what either is told.
    let all = scene.tap.all().await;
    assert!(all.iter().any(|seen| seen.to == Address::guest(scene.innocent.id)));
    for Seen { to, frame } in all {
        assert!(to.instance == scene.stolen.id || Frame::open(&scene.loot.key, &frame).is_none(), "{to}");
        for plain in [password.as_str(), "operation", "observed"] {
            assert!(memmem::find(&frame[HEADER_BYTES..], plain.as_bytes()).is_none(), "{to}");
        }
    }
    scene.end().await;
}
