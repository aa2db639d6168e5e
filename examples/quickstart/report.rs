//! The output: text for people, or one JSON object per line for machines.

use std::{io::Write, time::Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;
use trove_core::{
    control::ConnectionUri,
    error::Result,
    id::InstanceId,
    model::{Event, EventKind},
};

use crate::{home::Home, service::Service};

/// Prints progress and records the duration of each phase.
pub(crate) struct Report {
    json: bool,
    instance: InstanceId,
    output_closed: Notify,
    phases: Mutex<Vec<(&'static str, f64)>>,
}

/// A running phase.
pub(crate) struct Phase<'a> {
    report: &'a Report,
    name: &'static str,
    started: Instant,
}

impl Report {
    pub(crate) fn new(json: bool, instance: InstanceId) -> Self {
        Self { json, instance, output_closed: Notify::new(), phases: Mutex::default() }
    }

    /// Waits until standard output is closed, for example because the program at the other end of a
    /// pipe has ended.
    pub(crate) async fn output_closed(&self) {
        self.output_closed.notified().await;
    }

    pub(crate) fn phase(&self, name: &'static str) -> Phase<'_> {
        self.show(&format!("{name:<10}"), json!({"event": "phase", "phase": name}));
        Phase { report: self, name, started: Instant::now() }
    }

    /// Prints the events of the service until the work is done.
    pub(crate) async fn follow<T>(&self, service: &Service, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut events = service.trove.events();
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                Some(event) = events.next() => self.event(&event),
                done = &mut work => return done,
            }
        }
    }

    pub(crate) fn uri(&self, uri: &ConnectionUri) {
        self.show(&format!("{:<10} {uri}", "uri"), json!({"event": "uri", "uri": uri.to_string()}));
    }

    pub(crate) fn note(&self, note: &str) {
        self.show(note, json!({"event": "note", "message": note}));
    }

    pub(crate) fn kept(&self, home: &Home, datastore: &str) {
        let (file, command) = (home.uri_file(), home.client_command(datastore));
        let text = format!(
            "\nThe instance keeps running. Its URI with the password is in {}. Connect with:\n  {command}\n\
            Delete it with:\n  cargo xtask quickstart --delete {}",
            file.display(),
            home.id,
        );
        self.show(&text, json!({"event": "kept", "instance": home.id, "uri_file": file, "command": command}));
    }

    pub(crate) fn failed(&self, error: &str) {
        self.times();
        if self.json {
            self.show("", json!({"event": "quit", "error": error}));
        } else {
            // If stderr is closed, the exit status remains.
            let _ = writeln!(std::io::stderr(), "failed: {error}");
        }
    }

    pub(crate) fn done(&self) {
        self.times();
        self.show("done", json!({"event": "done"}));
    }

    fn times(&self) {
        let phases = self.phases.lock();
        if phases.is_empty() {
            return;
        }
        let total: f64 = phases.iter().map(|(_, seconds)| seconds).sum();
        let seconds: Value = phases.iter().map(|(name, seconds)| ((*name).to_owned(), json!(seconds))).collect();
        let lines: Vec<_> = phases.iter().map(|(name, seconds)| format!("  {name:<10} {seconds:6.2} s")).collect();
        let text = format!("\n{}\n  {:<10} {total:6.2} s", lines.join("\n"), "total");
        self.show(&text, json!({"event": "times", "seconds": seconds, "total": total}));
    }

    fn event(&self, event: &Event) {
        if self.json {
            return self.show("", serde_json::to_value(event).unwrap_or_default());
        }
        let line = match &event.kind {
            EventKind::State { state } => format!("state {state}"),
            EventKind::Health { health } => match health.problem() {
                Some(problem) => format!("health: {problem}"),
                None => format!("health: {health:?}").to_lowercase(),
            },
            EventKind::Step { step, number, of, undo, .. } => {
                format!("step {number}/{of} {}{step}", if *undo { "undo " } else { "" })
            }
            EventKind::Progress { progress, .. } => match progress.total {
                Some(total) => format!("  {}: {} of {total} {}", progress.phase, progress.done, progress.unit),
                None => format!("  {}", progress.phase),
            },
            EventKind::Failed { step, error, .. } => format!("step {step} failed: {}", error.message),
            _ => return,
        };
        self.show(&format!("{:<10} {line}", ""), Value::Null);
    }

    fn show(&self, text: &str, mut object: Value) {
        let mut out = std::io::stdout();
        let shown = if self.json {
            object["instance"] = json!(self.instance);
            writeln!(out, "{object}")
        } else {
            writeln!(out, "{text}")
        };
        if shown.is_err() {
            self.output_closed.notify_one();
        }
    }
}

impl Phase<'_> {
    pub(crate) fn end(self, outcome: &str) {
        let seconds = self.started.elapsed().as_secs_f64();
        self.report.phases.lock().push((self.name, seconds));
        let object = json!({"event": "phase_end", "phase": self.name, "seconds": seconds, "message": outcome});
        self.report.show(&format!("{:<10} {outcome} ({seconds:.2} s)", ""), object);
    }
}
