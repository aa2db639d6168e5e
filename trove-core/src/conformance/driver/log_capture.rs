//! Captures the log of a running case.

use std::{
    fmt::{self, Write as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

/// A subscriber that records all events and the fields of all spans, at every level. Clones share
/// their records.
///
/// It captures what is logged while a future is polled that has
/// [this subscriber](tracing::instrument::WithSubscriber). It does not see tasks and threads that
/// the driver spawns; a testbed can return their log as one of its
/// [artifacts](super::DriverTestbed::artifacts).
#[derive(Clone, Default)]
pub(super) struct LogCapture(Arc<Records>);

#[derive(Default)]
struct Records {
    lines: Mutex<Vec<String>>,
    spans: AtomicU64,
}

/// Formats fields as text.
struct LineBuilder(String);

impl LogCapture {
    /// Returns everything that was logged.
    pub(super) fn text(&self) -> String {
        self.0.lines.lock().join("\n")
    }

    fn push(&self, name: &str, record: impl FnOnce(&mut dyn Visit)) {
        let mut line = LineBuilder(name.to_owned());
        record(&mut line);
        self.0.lines.lock().push(line.0);
    }
}

impl Subscriber for LogCapture {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.push(span.metadata().name(), |line| span.record(line));
        Id::from_u64(self.0.spans.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _span: &Id, values: &Record<'_>) {
        self.push("", |line| values.record(line));
    }

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.push(event.metadata().target(), |line| event.record(line));
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

impl Visit for LineBuilder {
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
    async fn events_and_spans_are_captured_while_the_future_is_polled() {
        let logs = LogCapture::default();
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
