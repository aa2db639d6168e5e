//! Replayed frames, and sequence numbers from the future.

use std::sync::{Arc, Mutex};

use trove_core::{
    layer::FaultAction,
    model::{Condition, Health, NewUser, Problem},
    rpc::{Address, DropReason},
};

use super::{
    fixture::{AdversaryFixture, users},
    frame::{CALL, CAST, Frame, HELLO, WAKE, WELCOME},
    tap::RecordedFrame,
};
use crate::{logs, remote_agent::GuestPlacement};

#[tokio::test(flavor = "multi_thread")]
async fn replayed_frames_are_rejected_even_after_restarts() {
    let mut fixture = AdversaryFixture::new(GuestPlacement::Remote).await;
    let own = fixture.stolen.id;
    for instance in [&fixture.stolen, &fixture.innocent] {
        let accounts = instance.accounts();
        accounts.create_users([NewUser::new("gone", "p")]).await.unwrap();
        accounts.drop_user("gone").await.unwrap();
        accounts.create_users([NewUser::new("kept", "p")]).await.unwrap();
        instance.stop().await.unwrap().wait().await.unwrap();
        instance.start().await.unwrap().active().await.unwrap();
        instance.accounts().drop_user("kept").await.unwrap();
    }
    let old = fixture.tap.all().await;
    let changes = Arc::new(Mutex::new(Vec::new()));
    let recorded = changes.clone();
    fixture.agents.world.script(move |_, call| {
        if call.changes && !call.name.starts_with("ensure_") {
            recorded.lock().unwrap().push(call.name);
        }
        FaultAction::Proceed
    });

    // While both sides run.
    let before = fixture.dropped();
    replay(&fixture, &old).await;
    fixture.drain().await;
    assert!(fixture.dropped() >= before + droppable(&fixture, &old));
    // Before and after a restart of the guest.
    fixture.agents.stop(own).await.unwrap().unwrap();
    replay(&fixture, &old).await;
    fixture.agents.restart(own);
    fixture.drain().await;
    replay(&fixture, &old).await;
    fixture.drain().await;
    // Before and after a restart of the service.
    fixture.trove.shut_down().await;
    replay(&fixture, &old).await;
    fixture.resume().await;
    replay(&fixture, &old).await;
    fixture.drain().await;
    assert!(fixture.dropped() >= 2 * droppable(&fixture, &old));
    assert_eq!(*changes.lock().unwrap(), [""; 0]);
    assert!(logs::contains(&format!("address=guest.{own} reason=NoSession")));
    fixture.assert_innocent_unaffected().await;
    fixture.finish().await;
}

/// Puts all frames into their queues again.
async fn replay(fixture: &AdversaryFixture, old: &[RecordedFrame]) {
    for RecordedFrame { to, frame } in old {
        fixture.put(*to, frame).await;
    }
}

/// Returns how many of these frames the service drops and counts. `WAKE` and `HELLO` frames start a
/// session instead.
fn droppable(fixture: &AdversaryFixture, old: &[RecordedFrame]) -> u64 {
    let remote = Address::guest(fixture.stolen.id);
    let dropped = old.iter().filter(|sent| sent.to != remote && ![WAKE, HELLO].contains(&sent.frame[1]));
    dropped.count() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn exhausted_sequence_numbers_do_not_silence_a_guest() {
    let mut fixture = AdversaryFixture::new(GuestPlacement::Remote).await;
    let own = fixture.stolen.id;
    let key = fixture.secrets.key.clone();
    let false_report = fixture.false_report("the future").await.to_string();

    // The attacker uses the last sequence number of the guest's session; the guest is still able to
    // report.
    let last = Frame { sequence: u64::MAX, ..fixture.next(own, CAST).await };
    fixture.send(&last.seal(&key, false_report.as_bytes())).await;
    fixture.until_reported(own, "the future").await;
    until_guest_reports(&mut fixture, "after the last sequence number").await;

    // The same for the service's side of a session.
    let drop_user_request = fixture.drop_user_request().await.to_string();
    let last = Frame { kind: CALL, sequence: u64::MAX, ..fixture.next(own, CAST).await.back() };
    fixture.put(Address::guest(own), &last.seal(&key, drop_user_request.as_bytes())).await;
    fixture.until_processed().await;
    fixture.stolen.accounts().create_users([NewUser::new("app", "p")]).await.unwrap();

    // The attacker impersonates the guest while its agent is down.
    fixture.agents.stop(own).await.unwrap().unwrap();
    let sent_before = fixture.tap.all().await.len();
    let users = tokio::spawn({
        let instance = fixture.stolen.clone();
        async move { users(&instance).await }
    });
    let hello = Frame::read(
        &fixture.tap.find_after(sent_before, |sent| sent.to == Address::guest(own) && sent.frame[1] == HELLO).await,
    );
    let session = Frame { sender: [7; 16], sequence: u64::MAX - 1, ..hello.back() };
    fixture.send(&Frame { kind: WELCOME, ..session }.seal(&key, &[7; 16])).await;
    fixture.send(&Frame { kind: CAST, sequence: u64::MAX, ..session }.seal(&key, false_report.as_bytes())).await;
    fixture.until_reported(own, "the future").await;
    fixture.agents.restart(own);
    assert_eq!(users.await.unwrap(), ["app"]);
    until_guest_reports(&mut fixture, "after its restart").await;
    assert!(fixture.count(DropReason::Replayed) > 0);
    fixture.finish().await;
}

/// Waits until a report of the stolen guest itself arrives.
async fn until_guest_reports(fixture: &mut AdversaryFixture, message: &str) {
    let full = Problem::new(Condition::DiskFull, message);
    fixture.agents.world.break_server(fixture.stolen.id, Health::Impaired(full));
    fixture.until_reported(fixture.stolen.id, message).await;
    fixture.stolen.restart().await.unwrap().active().await.unwrap();
}
