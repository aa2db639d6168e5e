//! The crash matrix: runs every flow with each call failing before and after its effect, duplicated
//! or delayed, crossed with a crash of the owner before and after each call and each journal write,
//! and a takeover by another owner. Each run ends complete or leaves nothing behind.
//!
//! The quick tier crosses crashes only with failures after the effect, the hardest to clean up.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

mod broker;
mod case;
mod journal;

use case::Case;

use crate::{conformance::Tier, store::Store};

/// An injected fault, and the index of the call.
#[derive(Clone, Copy, Debug)]
struct InjectedFault {
    call: usize,
    kind: FaultKind,
}

/// The fault that a call meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FaultKind {
    /// It fails before or after its effect, once or permanently.
    Fails { after: bool, permanent: bool },
    /// It is delivered twice.
    Twice,
    /// It is delayed.
    Delay,
}

/// Where the owner crashes.
#[derive(Clone, Copy, Debug)]
enum Crash {
    AtWrite { write: usize, after: bool },
    AtCall { call: usize, after: bool },
}

/// The flow under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FlowKind {
    Create,
    Delete,
    Restart,
    Stop,
    Start,
    Configure,
    Upgrade,
    Resize,
    Rotate,
}

#[tokio::test]
async fn create_completes_or_rolls_back() {
    matrix(FlowKind::Create).await;
}

#[tokio::test]
async fn delete_completes() {
    matrix(FlowKind::Delete).await;
}

#[tokio::test]
async fn restart_completes_or_rolls_back() {
    matrix(FlowKind::Restart).await;
}

#[tokio::test]
async fn stop_completes_or_rolls_back() {
    matrix(FlowKind::Stop).await;
}

#[tokio::test]
async fn start_completes_or_rolls_back() {
    matrix(FlowKind::Start).await;
}

#[tokio::test]
async fn configure_completes_or_rolls_back() {
    matrix(FlowKind::Configure).await;
}

#[tokio::test]
async fn upgrade_completes_or_rolls_back() {
    matrix(FlowKind::Upgrade).await;
}

#[tokio::test]
async fn resize_completes_or_rolls_back() {
    matrix(FlowKind::Resize).await;
}

#[tokio::test]
async fn rotate_completes_or_rolls_back() {
    matrix(FlowKind::Rotate).await;
}

#[tokio::test]
async fn a_deletion_supersedes_a_creation_at_any_journal_write() {
    let store = Store::connect("sqlite::memory:").await.unwrap();
    let writes = Case::new(&store, FlowKind::Create).await.check(None, None).await.writes;
    for write in 0..writes {
        for after in [false, true] {
            let mut case = Case::new(&store, FlowKind::Create).await;
            case.delete_after_crash = true;
            case.run(None, Some(Crash::AtWrite { write, after })).await;
            case.assert_gone(&format!("deleted at write {write}, after: {after}")).await;
        }
    }
}

async fn matrix(operation: FlowKind) {
    let store = Store::connect("sqlite::memory:").await.unwrap();
    let baseline = Case::new(&store, operation).await.check(None, None).await;
    let mut cases = 0;
    // The last call of an upgrade only cleans up: the upgrade succeeds even if it fails.
    let calls = if operation == FlowKind::Upgrade { baseline.calls - 1 } else { baseline.calls };
    for fault in std::iter::once(None).chain(faults(calls).map(Some)) {
        let faulty = Case::new(&store, operation).await.check(fault, None).await;
        // Further retries of one call add no new cases.
        let (writes, calls) = (faulty.writes.min(baseline.writes + 12), faulty.calls.min(baseline.calls + 8));
        for crash in crashes(fault, writes, calls) {
            Case::new(&store, operation).await.check(fault, Some(crash)).await;
            cases += 1;
        }
    }
    assert!(cases >= 30, "only {cases} cases for {operation:?}");
}

fn faults(calls: usize) -> impl Iterator<Item = InjectedFault> {
    let fails = |after, permanent| FaultKind::Fails { after, permanent };
    let kinds = [
        fails(false, false),
        fails(true, false),
        fails(false, true),
        fails(true, true),
        FaultKind::Twice,
        FaultKind::Delay,
    ];
    (0..calls).flat_map(move |call| kinds.map(|kind| InjectedFault { call, kind }))
}

/// Returns the crashes to combine with a fault: none with a delay, and only crashes at calls with a
/// duplicate.
fn crashes(fault: Option<InjectedFault>, writes: usize, calls: usize) -> impl Iterator<Item = Crash> {
    let (writes, calls) = match fault.map(|fault| fault.kind) {
        None | Some(FaultKind::Fails { after: true, .. }) => (writes, calls),
        Some(FaultKind::Delay) => (0, 0),
        Some(_) if Tier::from_env() == Tier::Quick => (0, 0),
        Some(FaultKind::Twice) => (0, calls),
        Some(FaultKind::Fails { after: false, .. }) => (writes, calls),
    };
    let at_writes = (0..writes).flat_map(|write| [false, true].map(|after| Crash::AtWrite { write, after }));
    let at_calls = (0..calls).flat_map(|call| [false, true].map(|after| Crash::AtCall { call, after }));
    at_writes.chain(at_calls)
}
