use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// Completes a call, and then repeats it, dropped at its first await, at its second and so on. After each repetition
/// `check` asserts that nothing was lost, and restores the state for the next. Of a call with more awaits than `drops`, as
/// many are chosen, evenly spread.
pub(super) async fn drop_at_every_await<F: Future>(
    drops: usize,
    mut call: impl FnMut() -> F,
    mut check: impl AsyncFnMut(usize),
) {
    let mut whole = DropAfter { polls: usize::MAX, call: Box::pin(call()) };
    (&mut whole).await;
    let awaits = usize::MAX - whole.polls;
    drop(whole);
    check(awaits).await;
    let drops = drops.clamp(1, awaits.max(1));
    for number in 1..=drops {
        let at = (awaits * number / drops).max(1);
        // Another time it may have fewer.
        (DropAfter { polls: at, call: Box::pin(call()) }).await;
        check(at).await;
    }
}

/// Polls a future so many times that were not its last, and drops it. True where it ended before.
struct DropAfter<F> {
    polls: usize,
    call: Pin<Box<F>>,
}

impl<F: Future> Future for DropAfter<F> {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        if self.call.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        self.polls -= 1;
        if self.polls == 0 { Poll::Ready(false) } else { Poll::Pending }
    }
}
