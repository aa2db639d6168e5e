//! Drops futures at their await points, to test that cancellation loses nothing.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// Completes a call once, then repeats it and drops it at its first await, at its second, and so
/// on.
///
/// After each run, `check` receives the number of awaits that the run reached, asserts that nothing
/// was lost, and restores the state for the next run. If the call has more awaits than `max_drops`,
/// it is dropped at that many of them, evenly spaced.
pub(super) async fn drop_at_every_await<F: Future>(
    max_drops: usize,
    mut call: impl FnMut() -> F,
    mut check: impl AsyncFnMut(usize),
) {
    let mut complete = DropAfter { remaining_polls: usize::MAX, call: Box::pin(call()) };
    (&mut complete).await;
    let awaits = usize::MAX - complete.remaining_polls;
    drop(complete);
    check(awaits).await;
    let drops = max_drops.clamp(1, awaits.max(1));
    for number in 1..=drops {
        let polls = (awaits * number / drops).max(1);
        // A later run may have fewer awaits and complete.
        (DropAfter { remaining_polls: polls, call: Box::pin(call()) }).await;
        check(polls).await;
    }
}

/// Polls a future until it is ready or the polls are used up. Resolves to whether it was ready.
struct DropAfter<F> {
    remaining_polls: usize,
    call: Pin<Box<F>>,
}

impl<F: Future> Future for DropAfter<F> {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        if self.call.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        self.remaining_polls -= 1;
        if self.remaining_polls == 0 { Poll::Ready(false) } else { Poll::Pending }
    }
}
