use std::sync::Arc;

use super::{PlatformFixture, Testbed, compute, life, networks, volumes};
use crate::conformance::{
    CaseOutcome, Report,
    case::{self, Case},
    suite::{self, Suite, SuiteCase},
};

/// Runs all cases on a testbed.
pub async fn certify(subject: &str, testbed: impl Testbed) -> Report {
    certify_matching(subject, testbed, "").await
}

/// Runs the cases whose names contain the filter.
pub async fn certify_matching(subject: &str, testbed: impl Testbed, filter: &str) -> Report {
    suite::certify(subject, &PlatformSuite::new(testbed), filter, 1).await
}

/// The suite on one testbed, where cases run one at a time: each expects that there is nothing else on the platform.
pub(in crate::conformance) struct PlatformSuite {
    testbed: Arc<dyn Testbed>,
}

impl PlatformSuite {
    pub(in crate::conformance) fn new(testbed: impl Testbed) -> Self {
        Self { testbed: Arc::new(testbed) }
    }
}

impl Suite for PlatformSuite {
    type Case = Case<PlatformFixture>;

    fn cases() -> Vec<SuiteCase<Self::Case>> {
        let groups = [
            ("volumes", volumes::cases()),
            ("networks", networks::cases()),
            ("compute", compute::cases()),
            ("life", life::cases()),
        ];
        groups.into_iter().flat_map(|(group, cases)| suite::grouped(group, cases)).collect()
    }

    async fn run(&self, case: &Self::Case) -> CaseOutcome {
        let fixture = match PlatformFixture::open(self.testbed.clone()).await {
            Ok(fixture) => fixture,
            Err(error) => return CaseOutcome::Failed(format!("could not open the platform: {error:?}")),
        };
        let limit = self.testbed.case_timeout();
        let outcome = case::run(limit, (case.run)(&fixture)).await;
        // What a failed case created is released as well, for the sake of the next.
        let released = case::run(limit, fixture.release_all()).await;
        match outcome {
            CaseOutcome::Failed(_) => outcome,
            CaseOutcome::Passed | CaseOutcome::Skipped(_) if matches!(released, CaseOutcome::Failed(_)) => released,
            CaseOutcome::Passed | CaseOutcome::Skipped(_) => outcome,
        }
    }

    async fn close(&self) {}
}
