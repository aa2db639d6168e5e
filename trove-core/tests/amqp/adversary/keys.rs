//! Keys, and the other secrets that a guest receives.

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
    fixture::AdversaryFixture,
    frame::{CAST, Frame, HEADER_BYTES, WAKE},
    tap::{RecordedFrame, StolenSecrets},
};
use crate::remote_agent::GuestPlacement;

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_random_and_unique_per_instance() {
    const KEYS: usize = 4096;
    let mut ones = [0; 256];
    let mut keys = HashSet::new();
    for _ in 0..KEYS {
        let key = InstanceKey::generate(1).unwrap();
        let bytes = BASE64_STANDARD.decode(key.to_text().expose_secret()).unwrap();
        for (bit, count) in ones.iter_mut().enumerate() {
            *count += usize::from(bytes[bit / 8] >> (bit % 8) & 1);
        }
        assert!(bytes.len() == 32 && keys.insert(bytes));
    }
    // Ten standard deviations on either side.
    for count in ones {
        assert!(count.abs_diff(KEYS / 2) < 320, "{ones:?}");
    }

    let fixture = AdversaryFixture::new(GuestPlacement::Remote).await;
    let [stolen, innocent] = [fixture.stolen.id, fixture.innocent.id].map(|id| StolenSecrets::of(&fixture.agents, id));
    assert_eq!((stolen.key.len(), innocent.key.len()), (32, 32));
    assert_ne!(stolen.key, innocent.key);
    assert_ne!(stolen.login.password.expose_secret(), innocent.login.password.expose_secret());
    fixture.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_identity_is_rejected_after_rotation() {
    let mut fixture = AdversaryFixture::new(GuestPlacement::Remote).await;
    let own = fixture.stolen.id;
    let false_report = fixture.false_report("outdated").await.to_string();
    for secrets in [own, fixture.innocent.id].map(|id| StolenSecrets::of(&fixture.agents, id)) {
        for secret in [&secrets.key, secrets.login.password.expose_secret().as_bytes()] {
            assert_not_stored(fixture.store.path(), secret);
        }
    }
    fixture.stolen.rotate_identity().await.unwrap().wait().await.unwrap();
    fixture.drain().await;
    assert!(fixture.broker.connect(&fixture.secrets.login).await.is_err());
    let before = fixture.count(DropReason::UnknownKey);
    let next = Frame { key: fixture.secrets.number, ..fixture.next(own, CAST).await };
    for frame in [next, Frame { kind: WAKE, receiver: [0; 16], ..next }] {
        fixture.put(Address::control(own), &frame.seal(&fixture.secrets.key, false_report.as_bytes())).await;
    }
    fixture.drain().await;
    assert_eq!(fixture.count(DropReason::UnknownKey), before + 2);
    fixture.assert_innocent_unaffected().await;
    fixture.finish().await;
}

/// Asserts that no file of the store contains this secret, as bytes, hexadecimal or base64.
fn assert_not_stored(store: &Path, secret: &[u8]) {
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
async fn a_guest_receives_only_its_own_secrets() {
    let fixture = AdversaryFixture::new(GuestPlacement::Remote).await;
    let password = Uuid::new_v4().to_string();
    for instance in [&fixture.stolen, &fixture.innocent] {
        let accounts = instance.accounts();
        accounts.create_users([NewUser::new("extra", format!("{password} of {}", instance.name))]).await.unwrap();
        accounts.drop_user("extra").await.unwrap();
        accounts.enable_root().await.unwrap();
        instance.restart().await.unwrap().active().await.unwrap();
    }
    let mut received = fixture.secrets.text.clone();
    for sent in fixture.tap.all().await.into_iter().filter(|sent| sent.to == Address::guest(fixture.stolen.id)) {
        let text = Frame::open(&fixture.secrets.key, &sent.frame).expect("the frame is sealed with another key");
        received += std::str::from_utf8(&text).unwrap();
        received.push('\n');
    }
    assert!(received.contains(&format!("{password} of stolen")), "{received}");
    let other = StolenSecrets::of(&fixture.agents, fixture.innocent.id);
    let master = std::fs::read_to_string(fixture.store.path().join("trove.db.key")).unwrap();
    for (name, secret) in [
        ("the other instance", fixture.innocent.id.to_string()),
        ("its users' password", format!("{password} of innocent")),
        ("its key", BASE64_STANDARD.encode(&other.key)),
        ("its login", other.login.password.expose_secret().to_owned()),
        ("the service's login", fixture.broker.control_login().password.expose_secret().to_owned()),
        ("the master key", master.trim().to_owned()),
    ] {
        assert!(!received.contains(&secret), "a guest received {name}");
    }
    // A guest's key does not open frames to the other guest, and no frame contains plaintext.
    let all = fixture.tap.all().await;
    assert!(all.iter().any(|sent| sent.to == Address::guest(fixture.innocent.id)));
    for RecordedFrame { to, frame } in all {
        assert!(to.instance == fixture.stolen.id || Frame::open(&fixture.secrets.key, &frame).is_none(), "{to}");
        for plain in [password.as_str(), "operation", "observed"] {
            assert!(memmem::find(&frame[HEADER_BYTES..], plain.as_bytes()).is_none(), "{to}");
        }
    }
    fixture.finish().await;
}
