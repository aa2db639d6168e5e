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

use tokio::sync::Mutex;

use super::{
    CaseOutcome, Report,
    case::{self, Case},
    suite::{self, Suite, SuiteCase},
};
use crate::store::Store;

const CASE_TIMEOUT: Duration = Duration::from_secs(180);

/// Runs all cases on an empty store and leaves it empty. Nothing else may use the store meanwhile.
pub async fn certify(subject: &str, store: &Store) -> Report {
    suite::certify(subject, &StoreSuite::new(store.clone()), "", 1).await
}

/// The suite on one store. Cases run one at a time, because each expects the store to be empty.
pub(super) struct StoreSuite {
    store: Store,
    turn: Mutex<()>,
}

impl StoreSuite {
    pub(super) fn new(store: Store) -> Self {
        Self { store, turn: Mutex::default() }
    }
}

impl Suite for StoreSuite {
    type Case = Case<Store>;

    fn cases() -> Vec<SuiteCase<Self::Case>> {
        let groups = [
            ("instances", instances::cases()),
            ("journal", journal::cases()),
            ("versions", versions::cases()),
            ("configurations", configurations::cases()),
            ("sealed", sealed::cases()),
        ];
        groups.into_iter().flat_map(|(group, cases)| suite::grouped(group, cases)).collect()
    }

    async fn run(&self, case: &Self::Case) -> CaseOutcome {
        let _turn = self.turn.lock().await;
        let outcome = case::run(CASE_TIMEOUT, (case.run)(&self.store)).await;
        if matches!(outcome, CaseOutcome::Failed(_)) {
            // The next case expects an empty store, and fails if this does.
            case::run(CASE_TIMEOUT, rows::delete_all(&self.store)).await;
        }
        outcome
    }

    async fn close(&self) {}
}
