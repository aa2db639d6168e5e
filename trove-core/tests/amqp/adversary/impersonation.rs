//! Frames sealed with the stolen key.

use serde_json::{Value, json};
use trove_core::{
    control::InstanceHandle,
    error::{Kind, Result},
    id::{GenericUuid, InstanceId},
    model::{NewUser, PageRequest},
    rpc::{Address, DropReason},
};
use uuid::Uuid;

use super::{
    fixture::{AdversaryFixture, replace, users},
    frame::{CALL, CAST, CONFIRM, Frame, HELLO, REPLY, WAKE, WELCOME},
};
use crate::remote_agent::GuestPlacement;

/// The receiver before a session is established.
const NO_RECEIVER: [u8; 16] = [0; 16];

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_key_cannot_impersonate_another_instance() {
    let mut fixture = AdversaryFixture::new(GuestPlacement::InProcess).await;
    let (own, other) = (fixture.stolen.id, fixture.innocent.id);
    let (false_report, mut drop_user_request) =
        (fixture.false_report("forged").await.to_string(), fixture.drop_user_request().await);
    replace(&mut drop_user_request, "/Accounts/epoch", json!(1000));
    let drop_user_request = drop_user_request.to_string();
    let key = fixture.secrets.key.clone();
    let (false_report, drop_user_request) = (
        |frame: Frame| frame.seal(&key, false_report.as_bytes()), //
        |frame: Frame| frame.seal(&key, drop_user_request.as_bytes()),
    );
    let with_instance = |frame: Frame, id: InstanceId| Frame { instance: *id.as_untyped_uuid(), ..frame };
    let own_call = fixture.last(Address::guest(own), CALL).await;
    let other_call = fixture.last(Address::guest(other), CALL).await;
    let other_cast = fixture.last(Address::control(other), CAST).await;
    let own_cast = fixture.last(Address::control(own), CAST).await;

    // The queue, the frame made from headers of both guests' sessions, and the reason to drop it.
    // The stolen login can access only the first queue.
    type MakeFrame<'a> = Box<dyn Fn(Frame, Frame) -> Vec<u8> + 'a>;
    let cases: [(Address, MakeFrame<'_>, DropReason); 19] = [
        (Address::control(own), Box::new(|ours, _| false_report(with_instance(ours, other))), DropReason::Misdirected),
        (Address::control(own), Box::new(|_, theirs| false_report(theirs)), DropReason::Misdirected),
        (
            Address::control(own),
            Box::new(|ours, _| false_report(Frame { kind: WAKE, receiver: NO_RECEIVER, ..with_instance(ours, other) })),
            DropReason::Misdirected,
        ),
        (Address::control(own), Box::new(|_, _| other_cast.clone()), DropReason::Misdirected),
        (Address::control(own), Box::new(|ours, _| drop_user_request(ours.back())), DropReason::Misdirected),
        (Address::control(other), Box::new(|ours, _| false_report(ours)), DropReason::Misdirected),
        (Address::control(other), Box::new(|_, _| own_cast.clone()), DropReason::Misdirected),
        (Address::control(other), Box::new(|_, theirs| false_report(theirs)), DropReason::Forged),
        (
            Address::control(other),
            Box::new(|_, theirs| false_report(Frame { kind: REPLY, ..theirs })),
            DropReason::Forged,
        ),
        (
            Address::control(other),
            Box::new(|_, theirs| false_report(Frame { kind: WAKE, receiver: NO_RECEIVER, ..theirs })),
            DropReason::Forged,
        ),
        (
            Address::control(other),
            Box::new(|_, theirs| false_report(Frame { key: 2, ..theirs })),
            DropReason::UnknownKey,
        ),
        (
            Address::guest(other),
            Box::new(|ours, _| drop_user_request(Frame { kind: CALL, ..ours.back() })),
            DropReason::Misdirected,
        ),
        (Address::guest(other), Box::new(|_, _| own_call.clone()), DropReason::Misdirected),
        (Address::guest(own), Box::new(|_, _| other_call.clone()), DropReason::Misdirected),
        (
            Address::guest(other),
            Box::new(|_, theirs| drop_user_request(Frame { kind: CALL, ..theirs.back() })),
            DropReason::Forged,
        ),
        (
            Address::guest(other),
            Box::new(|_, theirs| false_report(Frame { kind: CONFIRM, ..theirs.back() })),
            DropReason::Forged,
        ),
        (
            Address::guest(other),
            Box::new(|_, theirs| {
                false_report(Frame { kind: HELLO, sender: [7; 16], receiver: NO_RECEIVER, ..theirs.back() })
            }),
            DropReason::Forged,
        ),
        (
            Address::control(other),
            Box::new(|_, theirs| false_report(Frame { kind: WELCOME, ..theirs })),
            DropReason::NoSession,
        ),
        (
            Address::control(other),
            Box::new(|_, theirs| false_report(Frame { sender: [7; 16], ..theirs })),
            DropReason::NoSession,
        ),
    ];
    for (number, (to, make_frame, reason)) in cases.into_iter().enumerate() {
        let (ours, theirs) = (fixture.next(own, CAST).await, fixture.next(other, CAST).await);
        let (frame, before) = (make_frame(ours, theirs), fixture.count(reason));
        match to == Address::control(own) {
            true => fixture.send(&frame).await,
            false => fixture.put(to, &frame).await,
        }
        fixture.drain().await;
        assert!(fixture.count(reason) > before, "{number}: not {reason:?}");
    }
    fixture.assert_innocent_unaffected().await;

    // In its own session, the sender is that guest, whatever instance the content names.
    let mut named = fixture.false_report("misattributed").await;
    named["Observed"]["instance"] = json!(other);
    named["Observed"]["observed"]["instance"] = json!(other);
    fixture.send(&fixture.next(own, CAST).await.seal(&key, named.to_string().as_bytes())).await;
    fixture.until_reported(own, "misattributed").await;
    fixture.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_and_duplicate_replies_are_dropped() {
    let fixture = AdversaryFixture::new(GuestPlacement::InProcess).await;
    let (own, other) = (fixture.stolen.id, fixture.innocent.id);
    let key = fixture.secrets.key.clone();
    // An error response, which the attacker seals again with changes.
    fixture.stolen.accounts().user("nobody").await.unwrap_err();
    let error_reply = Frame::open(&key, &fixture.last(Address::control(own), REPLY).await).unwrap();
    let mut error_reply: Value = serde_json::from_slice(&error_reply).unwrap();
    replace(&mut error_reply, "/Err/message", json!("forged"));
    let error_reply = error_reply.to_string();

    fixture.gate.close("accounts.create_users");
    let call = |instance: &InstanceHandle| {
        let accounts = instance.accounts();
        tokio::spawn(async move { accounts.create_users([NewUser::new("late", "p")]).await })
    };
    let calls = [call(&fixture.stolen), call(&fixture.innocent)];
    fixture.gate.until_held(2).await;
    let correlation = async |id| Frame::read(&fixture.last(Address::guest(id), CALL).await).correlation;
    let (ours, theirs) = (correlation(own).await, correlation(other).await);

    let dropped = [DropReason::Unexpected, DropReason::Forged].map(|reason| fixture.count(reason));
    let next = fixture.next(own, REPLY).await;
    let reply = |later: u64, correlation: Uuid| {
        Frame { sequence: next.sequence + later, correlation, ..next }.seal(&key, error_reply.as_bytes())
    };
    fixture.send(&reply(0, Uuid::new_v4())).await;
    fixture.send(&reply(1, theirs)).await;
    let forged = Frame { correlation: theirs, ..fixture.next(other, REPLY).await };
    fixture.put(Address::control(other), &forged.seal(&key, error_reply.as_bytes())).await;
    // The owner of the key can respond to a request once.
    fixture.send(&reply(2, ours)).await;
    fixture.send(&reply(3, ours)).await;
    let [stolen, innocent] = calls;
    let error = stolen.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (Kind::NotFound, "forged".to_owned()));
    assert!(!innocent.is_finished());
    fixture.until_dropped(DropReason::Unexpected, dropped[0] + 3).await;
    fixture.until_dropped(DropReason::Forged, dropped[1] + 1).await;

    // Of the guests' own replies, one is late and the other completes its call.
    let replayed = fixture.count(DropReason::Replayed);
    fixture.gate.open();
    let completed: Result<()> = innocent.await.unwrap();
    completed.unwrap();
    fixture.until_dropped(DropReason::Replayed, replayed + 1).await;
    for instance in [&fixture.stolen, &fixture.innocent] {
        assert_eq!(users(instance).await, ["app", "late"]);
        instance.accounts().drop_user("late").await.unwrap();
    }
    fixture.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_of_a_hostile_guest_are_limited_and_escaped() {
    let fixture = AdversaryFixture::new(GuestPlacement::InProcess).await;
    let (own, key) = (fixture.stolen.id, fixture.secrets.key.clone());
    let page = |names: Vec<&str>| {
        let items: Vec<_> = names.into_iter().map(|name| json!({ "name": name })).collect();
        json!({ "Ok": { "Accounts": { "Databases": { "items": items, "next": null } } } })
    };
    let exceeding = (Kind::Internal, "the guest sent a reply that exceeds its limits");
    for (reply, expected) in [
        (page(vec!["many"; 14_000]), Err(exceeding)),
        (page(vec![&"long".repeat(10_000)]), Err(exceeding)),
        (
            json!({ "Ok": { "Accounts": { "Flag": true } } }),
            Err((Kind::Internal, "the guest sent a reply of an unexpected type")),
        ),
        (page(vec!["\u{1b}[31mred"]), Ok("\\u{1b}[31mred")),
    ] {
        fixture.gate.close("accounts.databases");
        let accounts = fixture.stolen.accounts();
        let call = tokio::spawn(async move { accounts.databases(PageRequest::default()).await });
        fixture.gate.until_held(1).await;
        let correlation = Frame::read(&fixture.last(Address::guest(own), CALL).await).correlation;
        let forged = Frame { correlation, ..fixture.next(own, REPLY).await };
        fixture.send(&forged.seal(&key, reply.to_string().as_bytes())).await;
        let listed = call.await.unwrap();
        fixture.gate.open();
        fixture.gate.until_held(0).await;
        match (listed, expected) {
            (Ok(page), Ok(name)) => assert_eq!(page.items[0].name, name),
            (Err(error), Err(expected)) => assert_eq!((error.kind(), error.to_string().as_str()), expected),
            (listed, expected) => panic!("{listed:?} instead of {expected:?}"),
        }
    }
    fixture.finish().await;
}
