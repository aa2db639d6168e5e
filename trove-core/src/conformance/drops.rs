use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// Makes a call again and again, dropped at its first await, at its second and so on, until one ends. `check` looks after
/// each whether anything was lost; a call that has more awaits than `drops` is dropped at so many, and then at ever fewer.
pub(super) async fn dropped_everywhere<F: Future>(
    drops: usize,
    mut call: impl FnMut() -> F,
    mut check: impl AsyncFnMut(usize),
) {
    let mut at = 1;
    for round in 1.. {
        if (DropAfter { polls: at, call: Box::pin(call()) }).await {
            return;
        }
        check(at).await;
        at += 1 + at * usize::from(round > drops) / 2;
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
