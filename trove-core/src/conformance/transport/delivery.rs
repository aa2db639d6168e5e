//! Delivery of frames: order, acknowledgment and redelivery.

use futures_util::future::join_all;

use super::fixture::{QueueFixture, kind, receive, receive_text};
use crate::{
    conformance::case::{Case, cases},
    error::Kind,
    rpc::MAX_FRAME_BYTES,
};

pub(super) fn cases() -> Vec<Case<QueueFixture>> {
    cases![
        a_frame_arrives_unchanged,
        frames_of_one_sender_arrive_in_order,
        frames_of_concurrent_senders_all_arrive,
        a_frame_waits_for_its_consumer,
        a_frame_is_delivered_only_to_its_address,
        unacknowledged_frames_are_redelivered_first,
        acknowledged_frames_are_not_redelivered,
        frames_may_be_acknowledged_in_any_order,
        unacknowledged_frames_of_a_lost_consumer_are_redelivered,
        an_oversized_frame_is_rejected,
    ]
}

async fn a_frame_arrives_unchanged(fixture: &QueueFixture) {
    let every_byte: Vec<u8> = (0..=255).collect();
    let mut longest = every_byte.repeat(MAX_FRAME_BYTES / 256);
    longest[0] = 7;
    let mut consumer = fixture.consume().await;
    for frame in [Vec::new(), vec![0], every_byte, longest] {
        fixture.control.send(&fixture.to_guest, frame.clone()).await.unwrap();
        let delivery = receive(&mut consumer).await;
        assert!(delivery.frame() == frame, "{} bytes arrived as {}", frame.len(), delivery.frame().len());
        delivery.acknowledge().await.unwrap();
    }
}

async fn frames_of_one_sender_arrive_in_order(fixture: &QueueFixture) {
    let mut consumer = fixture.open(&fixture.control, &fixture.to_control).await;
    for number in 0..200 {
        fixture.guest.send(&fixture.to_control, format!("{number}").into()).await.unwrap();
    }
    for number in 0..200 {
        assert_eq!(receive_text(&mut consumer).await, number.to_string());
    }
}

async fn frames_of_concurrent_senders_all_arrive(fixture: &QueueFixture) {
    let senders = (0..16).map(|sender| async move {
        for number in 0..20 {
            fixture.send(&format!("{sender}/{number}")).await;
        }
    });
    join_all(senders).await;
    let mut consumer = fixture.consume().await;
    let mut last = [None; 16];
    for _ in 0..16 * 20 {
        let text = receive_text(&mut consumer).await;
        let (sender, number) = text.split_once('/').unwrap();
        let last = &mut last[sender.parse::<usize>().unwrap()];
        let number = number.parse::<u32>().unwrap();
        assert_eq!(number, last.map_or(0, |last: u32| last + 1), "{text} arrived out of order");
        *last = Some(number);
    }
}

async fn a_frame_waits_for_its_consumer(fixture: &QueueFixture) {
    fixture.send("early").await;
    assert_eq!(receive_text(&mut fixture.consume().await).await, "early");
}

async fn a_frame_is_delivered_only_to_its_address(fixture: &QueueFixture) {
    let other = QueueFixture::create(fixture.testbed.clone()).await;
    fixture.send("mine").await;
    fixture.guest.send(&fixture.to_control, b"my control's".to_vec()).await.unwrap();
    other.send("other's").await;
    other.guest.send(&other.to_control, b"the other's control's".to_vec()).await.unwrap();
    let mut own_control = fixture.open(&fixture.control, &fixture.to_control).await;
    let mut other_control = other.open(&other.control, &other.to_control).await;
    assert_eq!(receive_text(&mut other.consume().await).await, "other's");
    assert_eq!(receive_text(&mut fixture.consume().await).await, "mine");
    assert_eq!(receive_text(&mut own_control).await, "my control's");
    assert_eq!(receive_text(&mut other_control).await, "the other's control's");
    assert_ne!(fixture.instance, other.instance);
    other.remove().await;
}

async fn unacknowledged_frames_are_redelivered_first(fixture: &QueueFixture) {
    let mut consumer = fixture.consume().await;
    for text in ["a", "b"] {
        fixture.send(text).await;
    }
    for _ in 0..3 {
        assert_eq!(receive(&mut consumer).await.frame(), b"a");
    }
    assert_eq!(receive_text(&mut consumer).await, "a");
    assert_eq!(receive_text(&mut consumer).await, "b");
}

async fn acknowledged_frames_are_not_redelivered(fixture: &QueueFixture) {
    for text in ["a", "b"] {
        fixture.send(text).await;
        let mut consumer = fixture.consume().await;
        assert_eq!(receive_text(&mut consumer).await, text);
    }
    let mut consumer = fixture.consume().await;
    fixture.send("c").await;
    assert_eq!(receive_text(&mut consumer).await, "c");
}

async fn frames_may_be_acknowledged_in_any_order(fixture: &QueueFixture) {
    for text in ["a", "b", "c"] {
        fixture.send(text).await;
    }
    let mut consumer = fixture.consume().await;
    let (a, b, c) = (receive(&mut consumer).await, receive(&mut consumer).await, receive(&mut consumer).await);
    c.acknowledge().await.unwrap();
    drop(b);
    a.acknowledge().await.unwrap();
    assert_eq!(receive_text(&mut consumer).await, "b");
    fixture.send("d").await;
    assert_eq!(receive_text(&mut consumer).await, "d");
}

async fn unacknowledged_frames_of_a_lost_consumer_are_redelivered(fixture: &QueueFixture) {
    for text in ["a", "b"] {
        fixture.send(text).await;
    }
    let mut consumer = fixture.consume().await;
    let held = (receive(&mut consumer).await, receive(&mut consumer).await);
    drop(consumer);
    drop(held);
    let mut consumer = fixture.consume().await;
    assert_eq!(receive_text(&mut consumer).await, "a");
    assert_eq!(receive_text(&mut consumer).await, "b");
}

async fn an_oversized_frame_is_rejected(fixture: &QueueFixture) {
    let long = vec![1; MAX_FRAME_BYTES + 1];
    assert_eq!(kind(fixture.control.send(&fixture.to_guest, long.clone()).await), Some(Kind::Invalid));
    fixture.send("short").await;
    assert_eq!(receive_text(&mut fixture.consume().await).await, "short");
}
