//! The suite that certifies a store.
//!
//! ```
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! use trove_core::{conformance::store, store::Store};
//!
//! let report = store::certify("SQLite", &Store::connect("sqlite::memory:").await?).await;
//! assert!(report.passed(), "{report}");
//! # Ok::<_, trove_core::error::Error>(()) }).unwrap();
//! ```

mod configurations;
mod instances;
mod journal;
mod rows;
mod sealed;
mod versions;

use std::time::Duration;

use super::{
    Outcome, Report,
    case::{self, Case},
};
use crate::store::Store;

/// How long one case may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Tries a store by all cases, one after the other, and leaves it empty. It holds nothing else, and nothing else uses it
/// meanwhile.
pub async fn certify(subject: &str, store: &Store) -> Report {
    let mut report = Report { subject: subject.to_owned(), cases: Vec::new() };
    let subjects = [
        ("instances", instances::cases()),
        ("journal", journal::cases()),
        ("versions", versions::cases()),
        ("configurations", configurations::cases()),
        ("sealed", sealed::cases()),
    ];
    for (subject, cases) in subjects {
        for Case { name, run } in cases {
            let entry = case::run(format!("{subject}::{name}"), LIMIT, run(store)).await;
            if matches!(entry.outcome, Outcome::Failed(_)) {
                // What it left would mislead the next. Where it cannot be swept the next say so.
                case::run(String::new(), LIMIT, rows::sweep(store)).await;
            }
            report.cases.push(entry);
        }
    }
    report
}
