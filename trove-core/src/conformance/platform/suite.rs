use std::sync::Arc;

use super::{PlatformFixture, PlatformTestbed, compute, lifecycle, networks, volumes};
use crate::conformance::{
    CaseOutcome, Report,
    case::{self, Case},
    suite::{self, Suite, SuiteCase},
};

/// Runs all cases on a testbed.
pub async fn certify(subject: &str, testbed: impl PlatformTestbed) -> Report {
    certify_matching(subject, testbed, "").await
}

/// Runs the cases whose names contain the filter.
pub async fn certify_matching(subject: &str, testbed: impl PlatformTestbed, filter: &str) -> Report {
    suite::certify(subject, &PlatformSuite::new(testbed), filter, 1).await
}

/// The suite on one testbed. Cases run one at a time, because each expects an empty platform.
pub(in crate::conformance) struct PlatformSuite {
    testbed: Arc<dyn PlatformTestbed>,
}

impl PlatformSuite {
    pub(in crate::conformance) fn new(testbed: impl PlatformTestbed) -> Self {
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
            ("lifecycle", lifecycle::cases()),
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
        // The resources of a failed case are released too, because the next case expects an empty platform.
        let released = case::run(limit, fixture.release_all()).await;
        match outcome {
            CaseOutcome::Failed(_) => outcome,
            CaseOutcome::Passed | CaseOutcome::Skipped(_) if matches!(released, CaseOutcome::Failed(_)) => released,
            CaseOutcome::Passed | CaseOutcome::Skipped(_) => outcome,
        }
    }

    async fn close(&self) {}
}
