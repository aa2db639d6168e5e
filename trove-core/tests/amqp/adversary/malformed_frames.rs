//! Malformed and modified frames.

use futures_util::future::join_all;
use trove_core::{
    control::InstanceHandle,
    model::{Condition, Health, NewUser, Problem},
    rpc::{Address, DropReason, MAX_FRAME_BYTES, QUEUE_FRAMES, Side},
};

use super::{
    fixture::AdversaryFixture,
    frame::{CALL, CAST, Frame, HEADER_BYTES},
    tap::{confirming, published},
};
use crate::{broker::MAX_MESSAGE_BYTES, logs, remote_agent::GuestPlacement};

/// The sender and receiver of a frame; before them are version, kind, direction, key number and
/// instance.
const SESSION: std::ops::Range<usize> = 23..55;

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_with_any_flipped_bit_is_dropped() {
    let mut fixture = AdversaryFixture::new(GuestPlacement::InProcess).await;
    let own = fixture.stolen.id;
    let key = fixture.secrets.key.clone();
    for to in [Address::guest(own), Address::control(own)] {
        let (drop_user_request, false_report) =
            (fixture.drop_user_request().await.to_string(), fixture.false_report("changed").await.to_string());
        // A call that is not answered in time starts another session, in which this frame is not accepted.
        let next = fixture.next(own, CAST).await;
        let frame = match to.side {
            Side::Guest => Frame { kind: CALL, ..next.back() }.seal(&key, drop_user_request.as_bytes()),
            Side::Control => next.seal(&key, false_report.as_bytes()),
        };
        let (all, forged) = (fixture.dropped(), fixture.count(DropReason::Forged));
        // Frames that change the kind or the session come last, because they start another session.
        let (first, last): (Vec<_>, Vec<_>) =
            (0..frame.len() * 8).partition(|bit| bit / 8 != 1 && !SESSION.contains(&(bit / 8)));
        for bit in &first {
            fixture.put(to, &flip_bit(&frame, *bit)).await;
        }
        let expected = forged + 8 * (frame.len() - SESSION.end) as u64;
        fixture.until_dropped(DropReason::Forged, expected).await;
        fixture.drain().await;
        assert_eq!(fixture.count(DropReason::Forged), expected, "{to}");
        assert!(fixture.agents.world.serves(own, &["app"], &["app"]), "a forged request was processed");
        // The unmodified frame is accepted.
        fixture.put(to, &frame).await;
        match to.side {
            Side::Guest => {
                fixture.until_processed().await;
                fixture.stolen.accounts().create_users([NewUser::new("app", "p")]).await.unwrap();
            }
            Side::Control => fixture.until_reported(own, "changed").await,
        }
        for bit in &last {
            fixture.put(to, &flip_bit(&frame, *bit)).await;
        }
        fixture.drain().await;
        assert!(fixture.dropped() - all >= 8 * frame.len() as u64, "{to}");
        assert!(fixture.agents.world.serves(own, &["app"], &["app"]), "a forged request was processed");
    }
    fixture.finish().await;
}

fn flip_bit(frame: &[u8], bit: usize) -> Vec<u8> {
    let mut flipped = frame.to_vec();
    flipped[bit / 8] ^= 1 << (bit % 8);
    flipped
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_and_malformed_frames_are_dropped() {
    let mut fixture = AdversaryFixture::new(GuestPlacement::InProcess).await;
    let own = fixture.stolen.id;
    let key = fixture.secrets.key.clone();
    let (false_report, drop_user_request) =
        (fixture.false_report("plaintext").await.to_string(), fixture.drop_user_request().await.to_string());
    let heartbeat = fixture.next(own, CAST).await.seal(&key, false_report.as_bytes());
    let plaintext = [&heartbeat[..HEADER_BYTES], false_report.as_bytes()].concat();
    let other_version = [&[2], &heartbeat[1..]].concat();
    let mut junk = vec![
        (false_report.clone().into_bytes(), DropReason::Malformed),
        (drop_user_request.into_bytes(), DropReason::Malformed),
        (br#"{"oslo.version": "2.0", "oslo.message": "{}"}"#.to_vec(), DropReason::Malformed),
        (b"heartbeat".to_vec(), DropReason::Malformed),
        (Vec::new(), DropReason::Malformed),
        (vec![0; 200], DropReason::Malformed),
        (vec![255; 200], DropReason::Malformed),
        (other_version, DropReason::Malformed),
        (plaintext, DropReason::Forged),
        (vec![1; MAX_FRAME_BYTES + 1], DropReason::TooLong),
        (vec![1; MAX_MESSAGE_BYTES], DropReason::TooLong),
        ([heartbeat.as_slice(), &[0]].concat(), DropReason::Forged),
    ];
    let empty_frame = HEADER_BYTES + 16;
    junk.extend((0..empty_frame).map(|bytes| (heartbeat[..bytes].to_vec(), DropReason::Malformed)));
    junk.extend((empty_frame..heartbeat.len()).map(|bytes| (heartbeat[..bytes].to_vec(), DropReason::Forged)));
    let guest = Address::guest(own);
    for reason in [DropReason::Malformed, DropReason::Forged, DropReason::TooLong] {
        let before = fixture.count(reason);
        let frames = junk.iter().filter(|(_, expected)| *expected == reason);
        for (frame, _) in frames.clone() {
            fixture.send(frame).await;
        }
        fixture.drain().await;
        assert_eq!(fixture.count(reason), before + frames.clone().count() as u64, "{reason:?}");
        if reason == DropReason::Forged {
            // The stolen login can only send in this direction.
            continue;
        }
        for (frame, _) in frames.clone() {
            fixture.put(guest, frame).await;
        }
        fixture.drain().await;
        assert_eq!(fixture.count(reason), before + 2 * frames.count() as u64, "{reason:?}");
    }
    // The broker rejects longer messages.
    let connection = fixture.broker.connect(&fixture.secrets.login).await.unwrap();
    let (channel, exchange) = (confirming(&connection).await, Address::control(own).to_string());
    let error = published(&channel, &exchange, "", &vec![1; MAX_MESSAGE_BYTES + 1]).await.unwrap_err();
    assert!(format!("{error:?}").contains("PRECONDITION"), "{error:?}");
    fixture.assert_innocent_unaffected().await;

    // A queue without a consumer accepts a limited number of messages. The service drops them after
    // its restart.
    fixture.trove.shut_down().await;
    let channel = confirming(&connection).await;
    let mut queued = 0;
    while published(&channel, &exchange, "", b"junk").await.unwrap() {
        queued += 1;
    }
    assert!(queued <= QUEUE_FRAMES, "{queued}");
    fixture.resume().await;
    assert_eq!(fixture.count(DropReason::Malformed), queued as u64);
    fixture.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn undecodable_notices_are_dropped_and_not_logged() {
    let mut fixture = AdversaryFixture::new(GuestPlacement::InProcess).await;
    let own = fixture.stolen.id;
    let key = fixture.secrets.key.clone();
    let false_report = fixture.false_report("MESSAGE").await.to_string();
    let secret = "undec0dable-c0ntent";
    let next = fixture.next(own, CAST).await;
    let texts = [
        Vec::new(),
        secret.as_bytes().to_vec(),
        [secret.as_bytes(), &[0xff; 20]].concat(),
        format!("{{\"{secret}\": {{}}}}").into_bytes(),
        false_report.replace("data_missing", secret).into_bytes(),
        "[".repeat(100_000).into_bytes(),
        false_report.replace("\"settled\":false", "\"settled\":1e999").into_bytes(),
        false_report.replace("MESSAGE", &"x".repeat(500_000)).into_bytes(),
    ];
    for (number, text) in texts.iter().enumerate() {
        fixture.send(&Frame { sequence: next.sequence + number as u64, ..next }.seal(&key, text)).await;
    }
    // A valid but too long message is shown truncated, without control characters.
    let long = false_report.replace("MESSAGE", &format!("\\u001b[31m{}", "x".repeat(10_000)));
    fixture.send(&Frame { sequence: next.sequence + 100, ..next }.seal(&key, long.as_bytes())).await;
    let shown = format!("[31m{}", "x".repeat(1996));
    fixture.until_reported(own, &shown).await;
    assert!(logs::contains("failed to decode a notice"));
    logs::assert_absent("the content of an undecodable notice", secret.as_bytes());
    fixture.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_frames_does_not_affect_other_guests() {
    let mut fixture = AdversaryFixture::new(GuestPlacement::InProcess).await;
    let own = fixture.stolen.id;
    let (key, false_report) = (fixture.secrets.key.clone(), fixture.false_report("flood").await.to_string());
    let next = fixture.next(own, CAST).await;
    let (channel, exchange) = (confirming(&fixture.connections[1]).await, Address::control(own).to_string());
    let flood = async {
        for wave in 0..20 {
            let frames = (0..200u64).map(|number| {
                let sequence = next.sequence + wave * 200 + number;
                let length = if number == 0 { 500_000 } else { 1 };
                let report = false_report.replace("flood", &format!("{sequence} flood{}", "!".repeat(length)));
                let frame = Frame { sequence, ..next }.seal(&key, report.as_bytes());
                let (channel, exchange) = (&channel, &exchange);
                async move { published(channel, exchange, "", &frame).await.unwrap() }
            });
            join_all(frames).await;
        }
    };
    let reports = async {
        for number in 0..5 {
            let message = format!("during the flood {number}");
            let full = Problem::new(Condition::DiskFull, message.as_str());
            fixture.agents.world.break_server(fixture.innocent.id, Health::Impaired(full));
            until_health(&fixture.innocent, &message).await;
            fixture.innocent.restart().await.unwrap().active().await.unwrap();
        }
    };
    tokio::join!(flood, reports);
    fixture.events = fixture.trove.events();
    fixture.finish().await;
}

async fn until_health(instance: &InstanceHandle, message: &str) {
    let mut instance = instance.clone();
    let changed = async {
        while instance.refresh().await.unwrap().health.problem().is_none_or(|problem| problem.message != message) {
            tokio::time::sleep(crate::POLL_INTERVAL).await;
        }
    };
    tokio::time::timeout(super::TIMEOUT, changed).await.expect("the health did not change");
}
