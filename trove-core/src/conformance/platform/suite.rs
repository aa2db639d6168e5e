use std::sync::Arc;

use super::{Testbed, Trial, compute, life, networks, volumes};
use crate::conformance::{
    Entry, Outcome, Report,
    case::{self, Case},
};

/// Tries the platform of a testbed by all cases, one after another.
pub async fn certify(subject: &str, testbed: impl Testbed) -> Report {
    certify_only(subject, testbed, "").await
}

/// The same by those cases only whose name holds this text.
pub async fn certify_only(subject: &str, testbed: impl Testbed, text: &str) -> Report {
    let testbed: Arc<dyn Testbed> = Arc::new(testbed);
    let mut report = Report { subject: subject.to_owned(), cases: Vec::new() };
    for (name, case) in cases() {
        if name.contains(text) {
            report.cases.push(run(&testbed, name, case).await);
        }
    }
    report
}

fn cases() -> impl Iterator<Item = (String, Case<Trial>)> {
    let subjects = [
        ("volumes", volumes::cases()),
        ("networks", networks::cases()),
        ("compute", compute::cases()),
        ("life", life::cases()),
    ];
    let named = |(subject, cases): (&'static str, Vec<Case<Trial>>)| {
        cases.into_iter().map(move |case| (format!("{subject}::{}", case.name), case))
    };
    subjects.into_iter().flat_map(named)
}

async fn run(testbed: &Arc<dyn Testbed>, name: String, case: Case<Trial>) -> Entry {
    let trial = match Trial::begin(testbed.clone()).await {
        Ok(trial) => trial,
        Err(error) => {
            let outcome = Outcome::Failed(format!("the platform cannot be opened: {error:?}"));
            return Entry { name, outcome, took: Default::default() };
        }
    };
    let mut entry = case::run(name, testbed.limit(), (case.run)(&trial)).await;
    // What a case that failed made is released as well, for the sake of the next.
    let end = case::run(String::new(), testbed.limit(), trial.end()).await;
    if !matches!(entry.outcome, Outcome::Failed(_)) && matches!(end.outcome, Outcome::Failed(_)) {
        entry.outcome = end.outcome;
    }
    entry
}
