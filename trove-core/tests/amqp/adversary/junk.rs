//! What is no frame, and frames that were changed.

use futures_util::future::join_all;
use trove_core::{
    control::InstanceHandle,
    model::{Condition, Health, NewUser, Problem},
    rpc::{Address, DropReason, MAX_FRAME_BYTES, QUEUE_FRAMES, Side},
};

use super::{
    frame::{CALL, CAST, Frame, HEADER_BYTES},
    scene::{Home, Scene},
    wire::{confirming, published},
};
use crate::{broker::MAX_MESSAGE_BYTES, logs};

/// What is before these bytes is the version, the kind, the direction, the number of the key and the instance.
const SESSION: std::ops::Range<usize> = 23..55;

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_was_changed_in_any_bit_is_not_heard() {
    let mut scene = Scene::new(Home::Here).await;
    let own = scene.stolen.id;
    let key = scene.loot.key.clone();
    for to in [Address::guest(own), Address::control(own)] {
        let next = scene.next(own, CAST).await;
        let frame = match to.side {
            Side::Guest => Frame { kind: CALL, ..next.back() }.seal(&key, scene.order().await.to_string().as_bytes()),
            Side::Control => next.seal(&key, scene.lie("changed").await.to_string().as_bytes()),
        };
        let (all, forged) = (scene.refused(), scene.count(DropReason::Forged));
        // What names the session, or makes it another kind, comes last: it begins another session.
        let (first, last): (Vec<_>, Vec<_>) =
            (0..frame.len() * 8).partition(|bit| bit / 8 != 1 && !SESSION.contains(&(bit / 8)));
        for bit in &first {
            scene.put(to, &changed(&frame, *bit)).await;
        }
        scene.is_heard().await;
        assert_eq!(scene.count(DropReason::Forged) - forged, 8 * (frame.len() - SESSION.end) as u64, "{to}");
        assert!(scene.apart.world.serves(own, &["app"], &["app"]), "an order was obeyed");
        // As it was it would have been heard.
        scene.put(to, &frame).await;
        match to.side {
            Side::Guest => {
                scene.obeys().await;
                scene.stolen.accounts().create_users([NewUser::new("app", "p")]).await.unwrap();
            }
            Side::Control => scene.believes(own, "changed").await,
        }
        for bit in &last {
            scene.put(to, &changed(&frame, *bit)).await;
        }
        scene.is_heard().await;
        assert!(scene.refused() - all >= 8 * frame.len() as u64, "{to}");
        assert!(scene.apart.world.serves(own, &["app"], &["app"]), "an order was obeyed");
    }
    scene.end().await;
}

fn changed(frame: &[u8], bit: usize) -> Vec<u8> {
    let mut changed = frame.to_vec();
    changed[bit / 8] ^= 1 << (bit % 8);
    changed
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_and_junk_are_dropped() {
    let mut scene = Scene::new(Home::Here).await;
    let own = scene.stolen.id;
    let key = scene.loot.key.clone();
    let (lie, order) = (scene.lie("in the open").await.to_string(), scene.order().await.to_string());
    let heartbeat = scene.next(own, CAST).await.seal(&key, lie.as_bytes());
    let open = [&heartbeat[..HEADER_BYTES], lie.as_bytes()].concat();
    let other_version = [&[2], &heartbeat[1..]].concat();
    let mut junk = vec![
        (lie.clone().into_bytes(), DropReason::Malformed),
        (order.into_bytes(), DropReason::Malformed),
        (br#"{"oslo.version": "2.0", "oslo.message": "{}"}"#.to_vec(), DropReason::Malformed),
        (b"heartbeat".to_vec(), DropReason::Malformed),
        (Vec::new(), DropReason::Malformed),
        (vec![0; 200], DropReason::Malformed),
        (vec![255; 200], DropReason::Malformed),
        (other_version, DropReason::Malformed),
        (open, DropReason::Forged),
        (vec![1; MAX_FRAME_BYTES + 1], DropReason::TooLong),
        (vec![1; MAX_MESSAGE_BYTES], DropReason::TooLong),
        ([heartbeat.as_slice(), &[0]].concat(), DropReason::Forged),
    ];
    let whole = HEADER_BYTES + 16;
    junk.extend((0..whole).map(|bytes| (heartbeat[..bytes].to_vec(), DropReason::Malformed)));
    junk.extend((whole..heartbeat.len()).map(|bytes| (heartbeat[..bytes].to_vec(), DropReason::Forged)));
    let guest = Address::guest(own);
    for reason in [DropReason::Malformed, DropReason::Forged, DropReason::TooLong] {
        let before = scene.count(reason);
        let of = junk.iter().filter(|(_, why)| *why == reason);
        for (frame, _) in of.clone() {
            scene.send(frame).await;
        }
        scene.is_heard().await;
        assert_eq!(scene.count(reason), before + of.clone().count() as u64, "{reason:?}");
        if reason == DropReason::Forged {
            // They go the other way.
            continue;
        }
        for (frame, _) in of.clone() {
            scene.put(guest, frame).await;
        }
        scene.is_heard().await;
        assert_eq!(scene.count(reason), before + 2 * of.count() as u64, "{reason:?}");
    }
    // The broker takes no more than that.
    let connection = scene.broker.connect(&scene.loot.login).await.unwrap();
    let (channel, exchange) = (confirming(&connection).await, Address::control(own).to_string());
    let error = published(&channel, &exchange, "", &vec![1; MAX_MESSAGE_BYTES + 1]).await.unwrap_err();
    assert!(format!("{error:?}").contains("PRECONDITION"), "{error:?}");
    scene.is_unharmed().await;

    // A mailbox that nobody empties takes only so many, and the service all the same when it comes.
    scene.trove.shut_down().await;
    let channel = confirming(&connection).await;
    let mut taken = 0;
    while published(&channel, &exchange, "", b"junk").await.unwrap() {
        taken += 1;
    }
    assert!(taken <= QUEUE_FRAMES, "{taken}");
    scene.resume().await;
    assert_eq!(scene.count(DropReason::Malformed), taken as u64);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sealed_and_makes_no_sense_is_dropped_without_being_shown() {
    let mut scene = Scene::new(Home::Here).await;
    let own = scene.stolen.id;
    let key = scene.loot.key.clone();
    let lie = scene.lie("WORDS").await.to_string();
    let secret = "c0ntent-0f-n0nsense";
    let next = scene.next(own, CAST).await;
    let texts = [
        Vec::new(),
        secret.as_bytes().to_vec(),
        [secret.as_bytes(), &[0xff; 20]].concat(),
        format!("{{\"{secret}\": {{}}}}").into_bytes(),
        lie.replace("data_missing", secret).into_bytes(),
        "[".repeat(100_000).into_bytes(),
        lie.replace("\"settled\":false", "\"settled\":1e999").into_bytes(),
    ];
    for (number, text) in texts.iter().enumerate() {
        scene.send(&Frame { sequence: next.sequence + number as u64, ..next }.seal(&key, text)).await;
    }
    // What makes sense and is far too long is shown in part, and plainly.
    let long = lie.replace("WORDS", &format!("\\u001b[31m{}", "x".repeat(500_000)));
    scene.send(&Frame { sequence: next.sequence + 100, ..next }.seal(&key, long.as_bytes())).await;
    let shown = format!("[31m{}", "x".repeat(1996));
    scene.believes(own, &shown).await;
    assert!(logs::tell("nothing that makes sense"));
    logs::say_nothing_of("what makes no sense", secret.as_bytes());
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_drowns_nobody_else() {
    let mut scene = Scene::new(Home::Here).await;
    let own = scene.stolen.id;
    let (key, lie) = (scene.loot.key.clone(), scene.lie("flood").await.to_string());
    let next = scene.next(own, CAST).await;
    let (channel, exchange) = (confirming(&scene.connections[1]).await, Address::control(own).to_string());
    let flood = async {
        for wave in 0..20 {
            let frames = (0..200u64).map(|number| {
                let sequence = next.sequence + wave * 200 + number;
                let words = lie.replace("flood", &format!("flood {sequence}"));
                let frame = Frame { sequence, ..next }.seal(&key, words.as_bytes());
                let (channel, exchange) = (&channel, &exchange);
                async move { published(channel, exchange, "", &frame).await.unwrap() }
            });
            join_all(frames).await;
        }
    };
    let heard = async {
        for number in 0..5 {
            let words = format!("in the flood {number}");
            let full = Problem::new(Condition::DiskFull, words.as_str());
            scene.apart.world.break_server(scene.innocent.id, Health::Impaired(full));
            is_seen(&scene.innocent, &words).await;
            scene.innocent.restart().await.unwrap().active().await.unwrap();
        }
    };
    tokio::join!(flood, heard);
    scene.events = scene.trove.events();
    scene.end().await;
}

async fn is_seen(instance: &InstanceHandle, words: &str) {
    let mut instance = instance.clone();
    let seen = async {
        while instance.refresh().await.unwrap().health.problem().is_none_or(|problem| problem.message != words) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(super::PATIENCE, seen).await.expect("it is not heard");
}
