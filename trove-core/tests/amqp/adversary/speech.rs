//! What the stolen key may say.

use serde_json::{Value, json};
use trove_core::{
    control::InstanceHandle,
    error::{Kind, Result},
    id::{GenericUuid, InstanceId},
    model::NewUser,
    rpc::{Address, DropReason},
};
use uuid::Uuid;

use super::{
    frame::{CALL, CAST, CONFIRM, Frame, HELLO, REPLY, WAKE, WELCOME},
    scene::{Home, Scene, users},
};

/// Before there is a session.
const NOBODY: [u8; 16] = [0; 16];

#[tokio::test(flavor = "multi_thread")]
async fn nobody_speaks_for_another_instance() {
    let mut scene = Scene::new(Home::Here).await;
    let (own, other) = (scene.stolen.id, scene.innocent.id);
    let (lie, mut order) = (scene.lie("forged").await.to_string(), scene.order().await);
    order["Accounts"]["epoch"] = json!(1000);
    let order = order.to_string();
    let key = scene.loot.key.clone();
    let (lie, order) = (
        |frame: Frame| frame.seal(&key, lie.as_bytes()), //
        |frame: Frame| frame.seal(&key, order.as_bytes()),
    );
    let renamed = |frame: Frame, id: InstanceId| Frame { instance: *id.as_untyped_uuid(), ..frame };
    let own_call = scene.last(Address::guest(own), CALL).await;
    let other_call = scene.last(Address::guest(other), CALL).await;
    let other_cast = scene.last(Address::control(other), CAST).await;
    let own_cast = scene.last(Address::control(own), CAST).await;

    // What is put where, made of the headers in the session of the stolen guest and in that of the other; and why it is
    // dropped. Only the first mailbox is one that the stolen login reaches.
    type Made<'a> = Box<dyn Fn(Frame, Frame) -> Vec<u8> + 'a>;
    let cases: [(Address, Made<'_>, DropReason); 19] = [
        (Address::control(own), Box::new(|ours, _| lie(renamed(ours, other))), DropReason::Misdirected),
        (Address::control(own), Box::new(|_, theirs| lie(theirs)), DropReason::Misdirected),
        (
            Address::control(own),
            Box::new(|ours, _| lie(Frame { kind: WAKE, receiver: NOBODY, ..renamed(ours, other) })),
            DropReason::Misdirected,
        ),
        (Address::control(own), Box::new(|_, _| other_cast.clone()), DropReason::Misdirected),
        (Address::control(own), Box::new(|ours, _| order(ours.back())), DropReason::Misdirected),
        (Address::control(other), Box::new(|ours, _| lie(ours)), DropReason::Misdirected),
        (Address::control(other), Box::new(|_, _| own_cast.clone()), DropReason::Misdirected),
        (Address::control(other), Box::new(|_, theirs| lie(theirs)), DropReason::Forged),
        (Address::control(other), Box::new(|_, theirs| lie(Frame { kind: REPLY, ..theirs })), DropReason::Forged),
        (
            Address::control(other),
            Box::new(|_, theirs| lie(Frame { kind: WAKE, receiver: NOBODY, ..theirs })),
            DropReason::Forged,
        ),
        (Address::control(other), Box::new(|_, theirs| lie(Frame { key: 2, ..theirs })), DropReason::UnknownKey),
        (
            Address::guest(other),
            Box::new(|ours, _| order(Frame { kind: CALL, ..ours.back() })),
            DropReason::Misdirected,
        ),
        (Address::guest(other), Box::new(|_, _| own_call.clone()), DropReason::Misdirected),
        (Address::guest(own), Box::new(|_, _| other_call.clone()), DropReason::Misdirected),
        (Address::guest(other), Box::new(|_, theirs| order(Frame { kind: CALL, ..theirs.back() })), DropReason::Forged),
        (
            Address::guest(other),
            Box::new(|_, theirs| lie(Frame { kind: CONFIRM, ..theirs.back() })),
            DropReason::Forged,
        ),
        (
            Address::guest(other),
            Box::new(|_, theirs| lie(Frame { kind: HELLO, sender: [7; 16], receiver: NOBODY, ..theirs.back() })),
            DropReason::Forged,
        ),
        (Address::control(other), Box::new(|_, theirs| lie(Frame { kind: WELCOME, ..theirs })), DropReason::NoSession),
        (
            Address::control(other),
            Box::new(|_, theirs| lie(Frame { sender: [7; 16], ..theirs })),
            DropReason::NoSession,
        ),
    ];
    for (number, (to, made, reason)) in cases.into_iter().enumerate() {
        let (ours, theirs) = (scene.next(own, CAST).await, scene.next(other, CAST).await);
        let (frame, before) = (made(ours, theirs), scene.count(reason));
        match to == Address::control(own) {
            true => scene.send(&frame).await,
            false => scene.put(to, &frame).await,
        }
        scene.is_heard().await;
        assert!(scene.count(reason) > before, "{number}: not {reason:?}");
    }
    scene.is_unharmed().await;

    // In its own session it is that guest, whatever it says of whom it speaks.
    let mut named = scene.lie("of whom?").await;
    named["Seen"]["instance"] = json!(other);
    named["Seen"]["observed"]["instance"] = json!(other);
    scene.send(&scene.next(own, CAST).await.seal(&key, named.to_string().as_bytes())).await;
    scene.believes(own, "of whom?").await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_answers_for_another_instance_or_twice() {
    let scene = Scene::new(Home::Here).await;
    let (own, other) = (scene.stolen.id, scene.innocent.id);
    let key = scene.loot.key.clone();
    // An answer that says no, to be sealed anew.
    scene.stolen.accounts().user("nobody").await.unwrap_err();
    let no = Frame::open(&key, &scene.last(Address::control(own), REPLY).await).unwrap();
    let mut no: Value = serde_json::from_slice(&no).unwrap();
    no["Err"]["message"] = json!("says the thief");
    let no = no.to_string();

    scene.gate.shut("accounts.create_users");
    let call = |instance: &InstanceHandle| {
        let accounts = instance.accounts();
        tokio::spawn(async move { accounts.create_users([NewUser::new("late", "p")]).await })
    };
    let calls = [call(&scene.stolen), call(&scene.innocent)];
    scene.gate.holds(2).await;
    let asked = async |id| Frame::read(&scene.last(Address::guest(id), CALL).await).correlation;
    let (ours, theirs) = (asked(own).await, asked(other).await);

    let refused = [DropReason::Unexpected, DropReason::Forged].map(|reason| scene.count(reason));
    let next = scene.next(own, REPLY).await;
    let answer = |later: u64, correlation: Uuid| {
        Frame { sequence: next.sequence + later, correlation, ..next }.seal(&key, no.as_bytes())
    };
    scene.send(&answer(0, Uuid::new_v4())).await;
    scene.send(&answer(1, theirs)).await;
    let forged = Frame { correlation: theirs, ..scene.next(other, REPLY).await };
    scene.put(Address::control(other), &forged.seal(&key, no.as_bytes())).await;
    // Whoever has the key is asked, and answers, once.
    scene.send(&answer(2, ours)).await;
    scene.send(&answer(3, ours)).await;
    let [stolen, innocent] = calls;
    let error = stolen.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (Kind::NotFound, "says the thief".to_owned()));
    assert!(!innocent.is_finished());
    scene.until_refused(DropReason::Unexpected, refused[0] + 3).await;
    scene.until_refused(DropReason::Forged, refused[1] + 1).await;

    // The guests' own answers: one is late, the other is what the call comes to.
    let replayed = scene.count(DropReason::Replayed);
    scene.gate.open();
    let answered: Result<()> = innocent.await.unwrap();
    answered.unwrap();
    scene.until_refused(DropReason::Replayed, replayed + 1).await;
    for instance in [&scene.stolen, &scene.innocent] {
        assert_eq!(users(instance).await, ["app", "late"]);
        instance.accounts().drop_user("late").await.unwrap();
    }
    scene.end().await;
}
