//! Creation, limits, exclusive consumption and removal of queues.

use tokio::time::timeout;

use super::fixture::{DELIVERY_TIMEOUT, QueueFixture, kind, receive, receive_text};
use crate::{
    conformance::case::{Case, cases},
    error::Kind,
    id::InstanceId,
    rpc::{Address, MAX_FRAME_BYTES, QUEUE_BYTES, QUEUE_FRAMES},
};

pub(super) fn cases() -> Vec<Case<QueueFixture>> {
    cases![
        an_absent_queue_is_not_found,
        a_full_queue_is_busy_and_keeps_its_frames,
        a_queue_limits_its_bytes,
        a_second_consumer_conflicts_until_the_first_is_gone,
        creating_an_existing_queue_keeps_its_frames,
        removing_an_absent_queue_is_ok,
        a_recreated_queue_is_empty,
        a_consumer_of_a_removed_queue_gets_not_found,
    ]
}

async fn an_absent_queue_is_not_found(fixture: &QueueFixture) {
    let absent = Address::guest(InstanceId::new_v4());
    assert_eq!(kind(fixture.control.send(&absent, b"a".to_vec()).await), Some(Kind::NotFound));
    assert_eq!(kind(fixture.control.open(&absent).await), Some(Kind::NotFound));
    fixture.send("still works").await;
    assert_eq!(receive_text(&mut fixture.consume().await).await, "still works");
}

async fn a_full_queue_is_busy_and_keeps_its_frames(fixture: &QueueFixture) {
    for number in 0..QUEUE_FRAMES {
        fixture.send(&number.to_string()).await;
    }
    let full = async || kind(fixture.control.send(&fixture.to_guest, b"more".to_vec()).await);
    assert_eq!(full().await, Some(Kind::Busy));
    let mut consumer = fixture.consume().await;
    receive(&mut consumer).await.acknowledge().await.unwrap();
    fixture.send("room again").await;
    for number in 1..QUEUE_FRAMES {
        assert_eq!(receive_text(&mut consumer).await, number.to_string());
    }
    assert_eq!(receive_text(&mut consumer).await, "room again");
}

async fn a_queue_limits_its_bytes(fixture: &QueueFixture) {
    let long = vec![1; MAX_FRAME_BYTES];
    for _ in 0..QUEUE_BYTES / MAX_FRAME_BYTES {
        fixture.control.send(&fixture.to_guest, long.clone()).await.unwrap();
    }
    assert_eq!(kind(fixture.control.send(&fixture.to_guest, long.clone()).await), Some(Kind::Busy));
    let mut consumer = fixture.consume().await;
    receive(&mut consumer).await.acknowledge().await.unwrap();
    fixture.control.send(&fixture.to_guest, long.clone()).await.unwrap();
}

async fn a_second_consumer_conflicts_until_the_first_is_gone(fixture: &QueueFixture) {
    let first = fixture.consume().await;
    let again = fixture.testbed.guest(fixture.instance).await.unwrap();
    for transport in [&fixture.guest, &again] {
        assert_eq!(kind(transport.open(&fixture.to_guest).await), Some(Kind::Conflict));
    }
    drop(first);
    fixture.send("a").await;
    assert_eq!(receive_text(&mut fixture.open(&again, &fixture.to_guest).await).await, "a");
}

async fn creating_an_existing_queue_keeps_its_frames(fixture: &QueueFixture) {
    let mut consumer = fixture.consume().await;
    fixture.send("a").await;
    fixture.control.create(&fixture.to_guest).await.unwrap();
    assert_eq!(receive_text(&mut consumer).await, "a");
}

async fn removing_an_absent_queue_is_ok(fixture: &QueueFixture) {
    for _ in 0..2 {
        fixture.control.remove(&fixture.to_guest).await.unwrap();
    }
    assert_eq!(kind(fixture.control.send(&fixture.to_guest, b"a".to_vec()).await), Some(Kind::NotFound));
}

async fn a_recreated_queue_is_empty(fixture: &QueueFixture) {
    fixture.send("old").await;
    fixture.control.remove(&fixture.to_guest).await.unwrap();
    fixture.control.create(&fixture.to_guest).await.unwrap();
    fixture.send("new").await;
    assert_eq!(receive_text(&mut fixture.consume().await).await, "new");
}

async fn a_consumer_of_a_removed_queue_gets_not_found(fixture: &QueueFixture) {
    let mut consumer = fixture.consume().await;
    fixture.send("a").await;
    let held = receive(&mut consumer).await;
    fixture.control.remove(&fixture.to_guest).await.unwrap();
    let received = timeout(DELIVERY_TIMEOUT, consumer.receive()).await.expect("the removal was not noticed");
    assert_eq!(kind(received), Some(Kind::NotFound));
    drop(held);
    fixture.control.create(&fixture.to_guest).await.unwrap();
    fixture.send("b").await;
    drop(consumer);
    assert_eq!(receive_text(&mut fixture.consume().await).await, "b", "the frames of the removed queue are gone");
}
