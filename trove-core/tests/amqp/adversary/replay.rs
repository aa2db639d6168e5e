//! What was sent before, and what is yet to come.

use std::sync::{Arc, Mutex};

use trove_core::{
    layer::Verdict,
    model::{Condition, Health, NewUser, Problem},
    rpc::{Address, DropReason},
};

use super::{
    frame::{CALL, CAST, Frame, HELLO, WAKE, WELCOME},
    scene::{Home, Scene, users},
    wire::Seen,
};
use crate::logs;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_heard_is_not_heard_again_not_even_after_restarts() {
    let mut scene = Scene::new(Home::Apart).await;
    let own = scene.stolen.id;
    for instance in [&scene.stolen, &scene.innocent] {
        let accounts = instance.accounts();
        accounts.create_users([NewUser::new("gone", "p")]).await.unwrap();
        accounts.drop_user("gone").await.unwrap();
        accounts.create_users([NewUser::new("kept", "p")]).await.unwrap();
        instance.stop().await.unwrap().wait().await.unwrap();
        instance.start().await.unwrap().active().await.unwrap();
        instance.accounts().drop_user("kept").await.unwrap();
    }
    let old = scene.tap.all().await;
    let changes = Arc::new(Mutex::new(Vec::new()));
    let noted = changes.clone();
    scene.apart.world.script(move |_, call| {
        if call.changes && !call.name.starts_with("ensure_") {
            noted.lock().unwrap().push(call.name);
        }
        Verdict::Proceed
    });

    // While both sides are there.
    let before = scene.refused();
    replay(&scene, &old).await;
    scene.is_heard().await;
    assert!(scene.refused() >= before + refusable(&scene, &old));
    // Before and after the guest was restarted.
    scene.apart.end(own).await.unwrap().unwrap();
    replay(&scene, &old).await;
    scene.apart.begin_again(own);
    scene.is_heard().await;
    replay(&scene, &old).await;
    scene.is_heard().await;
    // Before and after the service was.
    scene.trove.shut_down().await;
    replay(&scene, &old).await;
    scene.resume().await;
    replay(&scene, &old).await;
    scene.is_heard().await;
    assert!(scene.refused() >= 2 * refusable(&scene, &old));
    assert_eq!(*changes.lock().unwrap(), [""; 0]);
    assert!(logs::tell(&format!("at=guest.{own} reason=NoSession")));
    scene.is_unharmed().await;
    scene.end().await;
}

/// Puts all frames again where they were.
async fn replay(scene: &Scene, old: &[Seen]) {
    for Seen { to, frame } in old {
        scene.put(*to, frame).await;
    }
}

/// How many of these are dropped where the service counts: a guest that says that it is there is offered a session, and
/// takes one that is offered.
fn refusable(scene: &Scene, old: &[Seen]) -> u64 {
    let elsewhere = Address::guest(scene.stolen.id);
    let dropped = old.iter().filter(|seen| seen.to != elsewhere && ![WAKE, HELLO].contains(&seen.frame[1]));
    dropped.count() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn the_far_future_mutes_nobody() {
    let mut scene = Scene::new(Home::Apart).await;
    let own = scene.stolen.id;
    let key = scene.loot.key.clone();
    let lie = scene.lie("the future").await.to_string();

    // The thief has the last word in the session of the guest; nobody calls it, and all the same it is heard again.
    let last = Frame { sequence: u64::MAX, ..scene.next(own, CAST).await };
    scene.send(&last.seal(&key, lie.as_bytes())).await;
    scene.believes(own, "the future").await;
    hears_the_guest(&mut scene, "after the last number").await;

    // The same of the service: it is obeyed again.
    let order = scene.order().await.to_string();
    let last = Frame { kind: CALL, sequence: u64::MAX, ..scene.next(own, CAST).await.back() };
    scene.put(Address::guest(own), &last.seal(&key, order.as_bytes())).await;
    scene.obeys().await;
    scene.stolen.accounts().create_users([NewUser::new("app", "p")]).await.unwrap();

    // The thief is the guest while that is away.
    scene.apart.end(own).await.unwrap().unwrap();
    let begun = scene.tap.all().await.len();
    let ask = tokio::spawn({
        let instance = scene.stolen.clone();
        async move { users(&instance).await }
    });
    let hello = Frame::read(
        &scene.tap.find_after(begun, |seen| seen.to == Address::guest(own) && seen.frame[1] == HELLO).await,
    );
    let session = Frame { sender: [7; 16], sequence: u64::MAX - 1, ..hello.back() };
    scene.send(&Frame { kind: WELCOME, ..session }.seal(&key, &[7; 16])).await;
    scene.send(&Frame { kind: CAST, sequence: u64::MAX, ..session }.seal(&key, lie.as_bytes())).await;
    scene.believes(own, "the future").await;
    scene.apart.begin_again(own);
    assert_eq!(ask.await.unwrap(), ["app"]);
    hears_the_guest(&mut scene, "after its absence").await;
    assert!(scene.count(DropReason::Replayed) > 0);
    scene.end().await;
}

/// Waits until the stolen guest itself is heard.
async fn hears_the_guest(scene: &mut Scene, words: &str) {
    let full = Problem::new(Condition::DiskFull, words);
    scene.apart.world.break_server(scene.stolen.id, Health::Impaired(full));
    scene.believes(scene.stolen.id, words).await;
    scene.stolen.restart().await.unwrap().active().await.unwrap();
}
