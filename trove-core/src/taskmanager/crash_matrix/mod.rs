//! Every flow, with every call failing before and after its effect, arriving twice or late, crossed with the death of its
//! owner at every call and every journal write, before and after it, and a take-over by another: it ends complete or with
//! nothing left behind.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

mod bus;
mod case;
mod journal;

use case::Case;

use crate::store::Store;

/// A call that goes wrong: which, and how.
#[derive(Clone, Copy, Debug)]
struct Fault {
    call: usize,
    trouble: Trouble,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// It fails, before or after its effect, once or for good.
    Fails { after: bool, lasting: bool },
    /// It arrives twice.
    Twice,
    /// It takes its time.
    Delay,
}

/// Where the owner dies.
#[derive(Clone, Copy, Debug)]
enum Death {
    AtWrite { write: usize, after: bool },
    AtCall { call: usize, after: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
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
async fn create_survives_everything() {
    matrix(Operation::Create).await;
}

#[tokio::test]
async fn delete_survives_everything() {
    matrix(Operation::Delete).await;
}

#[tokio::test]
async fn restart_survives_everything() {
    matrix(Operation::Restart).await;
}

#[tokio::test]
async fn stop_survives_everything() {
    matrix(Operation::Stop).await;
}

#[tokio::test]
async fn start_survives_everything() {
    matrix(Operation::Start).await;
}

#[tokio::test]
async fn configure_survives_everything() {
    matrix(Operation::Configure).await;
}

#[tokio::test]
async fn upgrade_survives_everything() {
    matrix(Operation::Upgrade).await;
}

#[tokio::test]
async fn resize_survives_everything() {
    matrix(Operation::Resize).await;
}

#[tokio::test]
async fn rotate_survives_everything() {
    matrix(Operation::Rotate).await;
}

#[tokio::test]
async fn a_deletion_ends_a_creation_wherever_it_stands() {
    let store = Store::connect("sqlite::memory:").await.unwrap();
    let writes = Case::new(&store, Operation::Create).await.check(None, None).await.writes;
    for write in 0..writes {
        for after in [false, true] {
            let mut case = Case::new(&store, Operation::Create).await;
            case.deleted_at_death = true;
            case.run(None, Some(Death::AtWrite { write, after })).await;
            case.assert_gone(&format!("deleted at write {write}, after: {after}")).await;
        }
    }
}

async fn matrix(operation: Operation) {
    let store = Store::connect("sqlite::memory:").await.unwrap();
    let plain = Case::new(&store, operation).await.check(None, None).await;
    let mut cases = 0;
    // The last call of an upgrade only tidies up; whatever becomes of it, the upgrade was done.
    let calls = if operation == Operation::Upgrade { plain.calls - 1 } else { plain.calls };
    for fault in std::iter::once(None).chain(faults(calls).map(Some)) {
        let calm = Case::new(&store, operation).await.check(fault, None).await;
        // What follows in a long row of tries for the same thing is the same again.
        let (writes, calls) = (calm.writes.min(plain.writes + 12), calm.calls.min(plain.calls + 8));
        for death in deaths(fault, writes, calls) {
            Case::new(&store, operation).await.check(fault, Some(death)).await;
            cases += 1;
        }
    }
    assert!(cases >= 30, "only {cases} cases for {operation:?}");
}

fn faults(calls: usize) -> impl Iterator<Item = Fault> {
    let fails = |after, lasting| Trouble::Fails { after, lasting };
    let troubles = [
        fails(false, false),
        fails(true, false),
        fails(false, true),
        fails(true, true),
        Trouble::Twice,
        Trouble::Delay,
    ];
    (0..calls).flat_map(move |call| troubles.map(|trouble| Fault { call, trouble }))
}

/// Everywhere, except that a call which arrives twice leaves nothing to the journal, and one that is late nothing at all.
fn deaths(fault: Option<Fault>, writes: usize, calls: usize) -> impl Iterator<Item = Death> {
    let trouble = fault.map(|fault| fault.trouble);
    let writes = if trouble == Some(Trouble::Twice) { 0 } else { writes };
    let (writes, calls) = if trouble == Some(Trouble::Delay) { (0, 0) } else { (writes, calls) };
    let at_writes = (0..writes).flat_map(|write| [false, true].map(|after| Death::AtWrite { write, after }));
    let at_calls = (0..calls).flat_map(|call| [false, true].map(|after| Death::AtCall { call, after }));
    at_writes.chain(at_calls)
}
