//! What is logged while a case runs.

use std::{
    fmt::{self, Write as _},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

/// Keeps all events and the fields of all spans, of every level. Clones keep together.
///
/// It hears what is logged where the future is polled that [listens](tracing::instrument::WithSubscriber) to it. What a
/// driver logs in tasks and threads of its own it does not: a testbed may give that as one of its
/// [traces](super::Testbed::artifacts).
#[derive(Clone, Default)]
pub(super) struct Logs(Arc<Kept>);

#[derive(Default)]
struct Kept {
    lines: Mutex<Vec<String>>,
    spans: AtomicU64,
}

/// Takes fields as a formatter would.
struct Line(String);

impl Logs {
    /// All that was logged.
    pub(super) fn text(&self) -> String {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    fn keep(&self, name: &str, record: impl FnOnce(&mut dyn Visit)) {
        let mut line = Line(name.to_owned());
        record(&mut line);
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line.0);
    }
}

impl Subscriber for Logs {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.keep(span.metadata().name(), |line| span.record(line));
        Id::from_u64(self.0.spans.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _span: &Id, values: &Record<'_>) {
        self.keep("", |line| values.record(line));
    }

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.keep(event.metadata().target(), |line| event.record(line));
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

#[cfg(test)]
mod tests {
    use tracing::instrument::WithSubscriber;

    use super::*;

    #[tokio::test]
    async fn events_and_spans_are_heard_while_the_future_is_polled() {
        let logs = Logs::default();
        tracing::info!("before");
        async {
            tracing::trace!(user = "app", "low");
            tokio::task::yield_now().await;
            let _span = tracing::debug_span!("work", password = ?"hunter2").entered();
        }
        .with_subscriber(logs.clone())
        .await;
        let text = logs.text();
        assert!(text.contains("message=low") && text.contains("user=\"app\"") && text.contains("hunter2"), "{text}");
        assert!(!text.contains("before"));
    }
}
