//! Dropped calls and broken connections.

use std::collections::BTreeSet;

use futures_util::FutureExt;
use tokio::time::{sleep, timeout};

use super::fixture::{DELIVERY_TIMEOUT, POLL_INTERVAL, QueueFixture, receive, receive_text};
use crate::{
    conformance::case::{Case, cases, skip},
    error::Kind,
};

pub(super) fn cases() -> Vec<Case<QueueFixture>> {
    cases![
        dropped_receive_calls_lose_nothing,
        dropped_send_calls_take_effect_at_most_once,
        a_broken_connection_loses_no_confirmed_frame,
    ]
}

async fn dropped_receive_calls_lose_nothing(fixture: &QueueFixture) {
    let mut consumer = fixture.consume().await;
    for number in 0..20 {
        // Drop a call before and after the frame is sent.
        let early = consumer.receive().now_or_never();
        assert!(early.is_none(), "{early:?}");
        fixture.send(&number.to_string()).await;
        drop(consumer.receive().now_or_never());
        assert_eq!(receive_text(&mut consumer).await, number.to_string());
    }
}

async fn dropped_send_calls_take_effect_at_most_once(fixture: &QueueFixture) {
    let mut consumer = fixture.consume().await;
    let numbers: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    for number in &numbers {
        drop(fixture.control.send(&fixture.to_guest, number.clone().into()).now_or_never());
    }
    fixture.send("end").await;
    let mut arrived = BTreeSet::new();
    loop {
        let text = receive_text(&mut consumer).await;
        if text == "end" {
            break;
        }
        assert!(numbers.contains(&text) && arrived.insert(text.clone()), "{text} was not sent, or arrived twice");
    }
}

async fn a_broken_connection_loses_no_confirmed_frame(fixture: &QueueFixture) {
    for text in ["done", "held", "waiting"] {
        fixture.send(text).await;
    }
    let mut consumer = fixture.consume().await;
    assert_eq!(receive_text(&mut consumer).await, "done");
    let held = receive(&mut consumer).await;
    match fixture.testbed.interrupt().await {
        Err(error) if error.kind() == Kind::Unsupported => skip(error.to_string()),
        interrupted => interrupted.unwrap(),
    }
    // Acknowledges nothing: the frame is redelivered.
    drop(held.acknowledge().await);
    // Either end may notice the interruption first.
    let sent = async {
        while let Err(error) = fixture.control.send(&fixture.to_guest, b"after".to_vec()).await {
            assert!(error.is_transient(), "{error:?}");
            sleep(POLL_INTERVAL).await;
        }
    };
    timeout(DELIVERY_TIMEOUT, sent).await.expect("sending keeps failing");
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != "after") {
        let delivery = receive(&mut consumer).await;
        seen.push(String::from_utf8(delivery.frame().to_vec()).unwrap());
        // A frame that was prefetched may be redelivered.
        drop(delivery.acknowledge().await);
    }
    assert!(seen.ends_with(&["held", "waiting", "after"].map(str::to_owned)), "{seen:?}");
}
