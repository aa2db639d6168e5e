//! What every transport keeps to.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use trove_core::{conformance::transport, rpc::InProcess};
//!
//! let report = transport::certify("in process", InProcess::new()).await;
//! assert!(report.passed(), "{report}");
//! # });
//! ```

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{FutureExt, future::join_all};
use tokio::{sync::Mutex, time::timeout};

use super::{
    CaseOutcome, Report,
    case::{self, Case, cases, skip},
    suite::{self, Coverage, Suite, SuiteCase},
};
use crate::{
    error::{Error, Kind, Result},
    id::InstanceId,
    rpc::{Address, Delivery, InProcess, MAX_FRAME_BYTES, QUEUE_BYTES, QUEUE_FRAMES, QueueConsumer, Transport},
};

/// How long one case may take.
const CASE_TIMEOUT: Duration = Duration::from_secs(180);
/// How long a frame that was sent may take to arrive.
const DELIVERY_LIMIT: Duration = Duration::from_secs(60);

/// A transport as each side has it.
#[async_trait]
pub trait Testbed: Send + Sync + 'static {
    /// As the control plane has it, which makes and removes mailboxes.
    fn control(&self) -> Arc<dyn Transport>;

    /// As the guest of an instance has it, whose mailboxes exist; it sends to the control plane and receives its own.
    async fn guest(&self, instance: InstanceId) -> Result<Arc<dyn Transport>>;

    /// Breaks every connection, once. [`Unsupported`](Kind::Unsupported) where there is none.
    async fn interrupt(&self) -> Result<()>;
}

#[async_trait]
impl Testbed for InProcess {
    fn control(&self) -> Arc<dyn Transport> {
        Arc::new(self.clone())
    }

    async fn guest(&self, _instance: InstanceId) -> Result<Arc<dyn Transport>> {
        Ok(self.control())
    }

    async fn interrupt(&self) -> Result<()> {
        Err(Error::unsupported("there is no connection to break"))
    }
}

/// Runs all cases on a testbed.
pub async fn certify(subject: &str, testbed: impl Testbed) -> Report {
    suite::certify(subject, &TransportSuite::new(testbed), "", 1).await
}

/// The suite on one testbed. A case may break the connections of all others, so that they take turns.
pub(super) struct TransportSuite {
    testbed: Arc<dyn Testbed>,
    turn: Mutex<()>,
}

impl TransportSuite {
    pub(super) fn new(testbed: impl Testbed) -> Self {
        Self { testbed: Arc::new(testbed), turn: Mutex::default() }
    }
}

impl Suite for TransportSuite {
    type Case = Case<MailboxFixture>;

    fn cases() -> Vec<SuiteCase<Self::Case>> {
        let named = |case: Self::Case| SuiteCase { name: case.name.to_owned(), coverage: Coverage::Specific, case };
        all().into_iter().map(named).collect()
    }

    async fn run(&self, case: &Self::Case) -> CaseOutcome {
        let _turn = self.turn.lock().await;
        case::run(CASE_TIMEOUT, async {
            let fixture = MailboxFixture::create(self.testbed.clone()).await;
            (case.run)(&fixture).await;
            fixture.remove().await;
        })
        .await
    }

    async fn close(&self) {}
}

fn all() -> Vec<Case<MailboxFixture>> {
    cases![
        a_frame_arrives_as_it_was_sent,
        frames_arrive_in_the_order_of_their_sender,
        the_frames_of_many_senders_all_arrive,
        a_frame_waits_for_its_receiver,
        a_frame_goes_to_its_address_only,
        what_is_not_done_is_delivered_again_before_the_next,
        what_is_done_is_not_delivered_again,
        frames_may_be_done_in_any_order,
        what_a_lost_receiver_had_is_delivered_to_the_next,
        a_frame_that_is_too_long_is_refused,
        where_there_is_no_mailbox_nothing_is_sent_or_received,
        a_full_mailbox_is_busy_and_keeps_what_it_has,
        a_mailbox_holds_only_so_many_bytes,
        a_second_receiver_is_a_conflict_until_the_first_is_gone,
        creating_a_mailbox_again_keeps_what_it_holds,
        removing_a_mailbox_again_is_ok,
        a_removed_mailbox_is_empty_when_it_is_made_again,
        whoever_receives_from_a_removed_mailbox_hears_of_it,
        a_receive_that_is_dropped_loses_nothing,
        a_send_that_is_dropped_is_made_once_or_not,
        a_broken_connection_loses_nothing_that_was_sent,
    ]
}

/// One instance with its two mailboxes.
pub(super) struct MailboxFixture {
    testbed: Arc<dyn Testbed>,
    control: Arc<dyn Transport>,
    guest: Arc<dyn Transport>,
    instance: InstanceId,
    to_guest: Address,
    to_control: Address,
}

impl MailboxFixture {
    async fn create(testbed: Arc<dyn Testbed>) -> Self {
        let instance = InstanceId::new_v4();
        let control = testbed.control();
        let (to_guest, to_control) = (Address::guest(instance), Address::control(instance));
        for address in [&to_guest, &to_control] {
            control.create(address).await.unwrap();
        }
        let guest = testbed.guest(instance).await.unwrap();
        Self { testbed, control, guest, instance, to_guest, to_control }
    }

    async fn remove(self) {
        for address in [&self.to_guest, &self.to_control] {
            self.control.remove(address).await.unwrap();
        }
    }

    /// What the guest receives with.
    async fn inbox(&self) -> Box<dyn QueueConsumer> {
        self.opened(&self.guest, &self.to_guest).await
    }

    /// Opens what a former receiver may have let go of just now.
    async fn opened(&self, transport: &Arc<dyn Transport>, address: &Address) -> Box<dyn QueueConsumer> {
        let opening = async {
            loop {
                match transport.open(address).await {
                    Ok(inbox) => return inbox,
                    Err(error) if error.kind() == Kind::Conflict => tokio::task::yield_now().await,
                    Err(error) => panic!("{address} cannot be opened: {error:?}"),
                }
            }
        };
        timeout(DELIVERY_LIMIT, opening).await.expect("the former receiver never let go")
    }

    /// The control plane sends this to the guest.
    async fn send(&self, text: &str) {
        self.control.send(&self.to_guest, text.into()).await.unwrap();
    }
}

/// The next delivery, which has to come.
async fn next(inbox: &mut Box<dyn QueueConsumer>) -> Delivery {
    timeout(DELIVERY_LIMIT, inbox.receive()).await.expect("nothing arrived").unwrap()
}

/// The next frame as text; it is done.
async fn take(inbox: &mut Box<dyn QueueConsumer>) -> String {
    let delivery = next(inbox).await;
    let text = String::from_utf8(delivery.frame().to_vec()).unwrap();
    delivery.acknowledge().await.unwrap();
    text
}

fn kind<T>(result: Result<T>) -> Option<Kind> {
    result.err().map(|error| error.kind())
}

async fn a_frame_arrives_as_it_was_sent(fixture: &MailboxFixture) {
    let every_byte: Vec<u8> = (0..=255).collect();
    let mut longest = every_byte.repeat(MAX_FRAME_BYTES / 256);
    longest[0] = 7;
    let mut inbox = fixture.inbox().await;
    for frame in [Vec::new(), vec![0], every_byte, longest] {
        fixture.control.send(&fixture.to_guest, frame.clone()).await.unwrap();
        let delivery = next(&mut inbox).await;
        assert!(delivery.frame() == frame, "{} bytes arrived as {}", frame.len(), delivery.frame().len());
        delivery.acknowledge().await.unwrap();
    }
}

async fn frames_arrive_in_the_order_of_their_sender(fixture: &MailboxFixture) {
    let mut inbox = fixture.opened(&fixture.control, &fixture.to_control).await;
    for number in 0..200 {
        fixture.guest.send(&fixture.to_control, format!("{number}").into()).await.unwrap();
    }
    for number in 0..200 {
        assert_eq!(take(&mut inbox).await, number.to_string());
    }
}

async fn the_frames_of_many_senders_all_arrive(fixture: &MailboxFixture) {
    let senders = (0..16).map(|sender| async move {
        for number in 0..20 {
            fixture.send(&format!("{sender}/{number}")).await;
        }
    });
    join_all(senders).await;
    let mut inbox = fixture.inbox().await;
    let mut last = [None; 16];
    for _ in 0..16 * 20 {
        let text = take(&mut inbox).await;
        let (sender, number) = text.split_once('/').unwrap();
        let last = &mut last[sender.parse::<usize>().unwrap()];
        let number = number.parse::<u32>().unwrap();
        assert_eq!(number, last.map_or(0, |last: u32| last + 1), "{text} is out of order");
        *last = Some(number);
    }
}

async fn a_frame_waits_for_its_receiver(fixture: &MailboxFixture) {
    fixture.send("early").await;
    assert_eq!(take(&mut fixture.inbox().await).await, "early");
}

async fn a_frame_goes_to_its_address_only(fixture: &MailboxFixture) {
    let other = MailboxFixture::create(fixture.testbed.clone()).await;
    fixture.send("mine").await;
    fixture.guest.send(&fixture.to_control, b"my control's".to_vec()).await.unwrap();
    other.send("other's").await;
    other.guest.send(&other.to_control, b"the other's control's".to_vec()).await.unwrap();
    let mut own = fixture.opened(&fixture.control, &fixture.to_control).await;
    let mut others = other.opened(&other.control, &other.to_control).await;
    assert_eq!(take(&mut other.inbox().await).await, "other's");
    assert_eq!(take(&mut fixture.inbox().await).await, "mine");
    assert_eq!(take(&mut own).await, "my control's");
    assert_eq!(take(&mut others).await, "the other's control's");
    assert_ne!(fixture.instance, other.instance);
    other.remove().await;
}

async fn what_is_not_done_is_delivered_again_before_the_next(fixture: &MailboxFixture) {
    let mut inbox = fixture.inbox().await;
    for text in ["a", "b"] {
        fixture.send(text).await;
    }
    for _ in 0..3 {
        assert_eq!(next(&mut inbox).await.frame(), b"a");
    }
    assert_eq!(take(&mut inbox).await, "a");
    assert_eq!(take(&mut inbox).await, "b");
}

async fn what_is_done_is_not_delivered_again(fixture: &MailboxFixture) {
    for text in ["a", "b"] {
        fixture.send(text).await;
        let mut inbox = fixture.inbox().await;
        assert_eq!(take(&mut inbox).await, text);
    }
    let mut inbox = fixture.inbox().await;
    fixture.send("c").await;
    assert_eq!(take(&mut inbox).await, "c");
}

async fn frames_may_be_done_in_any_order(fixture: &MailboxFixture) {
    for text in ["a", "b", "c"] {
        fixture.send(text).await;
    }
    let mut inbox = fixture.inbox().await;
    let (a, b, c) = (next(&mut inbox).await, next(&mut inbox).await, next(&mut inbox).await);
    c.acknowledge().await.unwrap();
    drop(b);
    a.acknowledge().await.unwrap();
    assert_eq!(take(&mut inbox).await, "b");
    fixture.send("d").await;
    assert_eq!(take(&mut inbox).await, "d");
}

async fn what_a_lost_receiver_had_is_delivered_to_the_next(fixture: &MailboxFixture) {
    for text in ["a", "b"] {
        fixture.send(text).await;
    }
    let mut inbox = fixture.inbox().await;
    let held = (next(&mut inbox).await, next(&mut inbox).await);
    drop(inbox);
    drop(held);
    let mut inbox = fixture.inbox().await;
    assert_eq!(take(&mut inbox).await, "a");
    assert_eq!(take(&mut inbox).await, "b");
}

async fn a_frame_that_is_too_long_is_refused(fixture: &MailboxFixture) {
    let long = vec![1; MAX_FRAME_BYTES + 1];
    assert_eq!(kind(fixture.control.send(&fixture.to_guest, long.clone()).await), Some(Kind::Invalid));
    fixture.send("short").await;
    assert_eq!(take(&mut fixture.inbox().await).await, "short");
}

async fn where_there_is_no_mailbox_nothing_is_sent_or_received(fixture: &MailboxFixture) {
    let nowhere = Address::guest(InstanceId::new_v4());
    assert_eq!(kind(fixture.control.send(&nowhere, b"a".to_vec()).await), Some(Kind::NotFound));
    assert_eq!(kind(fixture.control.open(&nowhere).await), Some(Kind::NotFound));
    fixture.send("still works").await;
    assert_eq!(take(&mut fixture.inbox().await).await, "still works");
}

async fn a_full_mailbox_is_busy_and_keeps_what_it_has(fixture: &MailboxFixture) {
    for number in 0..QUEUE_FRAMES {
        fixture.send(&number.to_string()).await;
    }
    let full = async || kind(fixture.control.send(&fixture.to_guest, b"more".to_vec()).await);
    assert_eq!(full().await, Some(Kind::Busy));
    let mut inbox = fixture.inbox().await;
    next(&mut inbox).await.acknowledge().await.unwrap();
    fixture.send("room again").await;
    for number in 1..QUEUE_FRAMES {
        assert_eq!(take(&mut inbox).await, number.to_string());
    }
    assert_eq!(take(&mut inbox).await, "room again");
}

async fn a_mailbox_holds_only_so_many_bytes(fixture: &MailboxFixture) {
    let long = vec![1; MAX_FRAME_BYTES];
    for _ in 0..QUEUE_BYTES / MAX_FRAME_BYTES {
        fixture.control.send(&fixture.to_guest, long.clone()).await.unwrap();
    }
    assert_eq!(kind(fixture.control.send(&fixture.to_guest, long.clone()).await), Some(Kind::Busy));
    let mut inbox = fixture.inbox().await;
    next(&mut inbox).await.acknowledge().await.unwrap();
    fixture.control.send(&fixture.to_guest, long.clone()).await.unwrap();
}

async fn a_second_receiver_is_a_conflict_until_the_first_is_gone(fixture: &MailboxFixture) {
    let first = fixture.inbox().await;
    let again = fixture.testbed.guest(fixture.instance).await.unwrap();
    for transport in [&fixture.guest, &again] {
        assert_eq!(kind(transport.open(&fixture.to_guest).await), Some(Kind::Conflict));
    }
    drop(first);
    fixture.send("a").await;
    assert_eq!(take(&mut fixture.opened(&again, &fixture.to_guest).await).await, "a");
}

async fn creating_a_mailbox_again_keeps_what_it_holds(fixture: &MailboxFixture) {
    let mut inbox = fixture.inbox().await;
    fixture.send("a").await;
    fixture.control.create(&fixture.to_guest).await.unwrap();
    assert_eq!(take(&mut inbox).await, "a");
}

async fn removing_a_mailbox_again_is_ok(fixture: &MailboxFixture) {
    for _ in 0..2 {
        fixture.control.remove(&fixture.to_guest).await.unwrap();
    }
    assert_eq!(kind(fixture.control.send(&fixture.to_guest, b"a".to_vec()).await), Some(Kind::NotFound));
}

async fn a_removed_mailbox_is_empty_when_it_is_made_again(fixture: &MailboxFixture) {
    fixture.send("old").await;
    fixture.control.remove(&fixture.to_guest).await.unwrap();
    fixture.control.create(&fixture.to_guest).await.unwrap();
    fixture.send("new").await;
    assert_eq!(take(&mut fixture.inbox().await).await, "new");
}

async fn whoever_receives_from_a_removed_mailbox_hears_of_it(fixture: &MailboxFixture) {
    let mut inbox = fixture.inbox().await;
    let held = {
        fixture.send("a").await;
        next(&mut inbox).await
    };
    fixture.control.remove(&fixture.to_guest).await.unwrap();
    let heard = timeout(DELIVERY_LIMIT, inbox.receive()).await.expect("nothing was heard");
    assert_eq!(kind(heard), Some(Kind::NotFound));
    drop(held);
    fixture.control.create(&fixture.to_guest).await.unwrap();
    fixture.send("b").await;
    drop(inbox);
    assert_eq!(take(&mut fixture.inbox().await).await, "b", "what the removed one held is gone");
}

async fn a_receive_that_is_dropped_loses_nothing(fixture: &MailboxFixture) {
    let mut inbox = fixture.inbox().await;
    for number in 0..20 {
        // Whether it was there already or comes in between, it is not lost.
        let early = inbox.receive().now_or_never();
        assert!(early.is_none(), "{early:?}");
        fixture.send(&number.to_string()).await;
        drop(inbox.receive().now_or_never());
        assert_eq!(take(&mut inbox).await, number.to_string());
    }
}

async fn a_send_that_is_dropped_is_made_once_or_not(fixture: &MailboxFixture) {
    let mut inbox = fixture.inbox().await;
    let numbers: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    for number in &numbers {
        drop(fixture.control.send(&fixture.to_guest, number.clone().into()).now_or_never());
    }
    fixture.send("end").await;
    let mut arrived = BTreeSet::new();
    loop {
        let text = take(&mut inbox).await;
        if text == "end" {
            break;
        }
        assert!(numbers.contains(&text) && arrived.insert(text.clone()), "{text} came twice");
    }
}

async fn a_broken_connection_loses_nothing_that_was_sent(fixture: &MailboxFixture) {
    for text in ["done", "held", "waiting"] {
        fixture.send(text).await;
    }
    let mut inbox = fixture.inbox().await;
    assert_eq!(take(&mut inbox).await, "done");
    let held = next(&mut inbox).await;
    match fixture.testbed.interrupt().await {
        Err(error) if error.kind() == Kind::Unsupported => skip(error.to_string()),
        interrupted => interrupted.unwrap(),
    }
    // Nobody else's frame is done by it, and it comes again.
    drop(held.acknowledge().await);
    // Which end has noticed when is left open.
    let sent = async {
        while let Err(error) = fixture.control.send(&fixture.to_guest, b"after".to_vec()).await {
            assert!(error.is_transient(), "{error:?}");
            tokio::task::yield_now().await;
        }
    };
    timeout(DELIVERY_LIMIT, sent).await.expect("nothing can be sent any more");
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != "after") {
        let delivery = next(&mut inbox).await;
        seen.push(String::from_utf8(delivery.frame().to_vec()).unwrap());
        // What was fetched before may come again.
        drop(delivery.acknowledge().await);
    }
    assert!(seen.ends_with(&["held", "waiting", "after"].map(str::to_owned)), "{seen:?}");
}
