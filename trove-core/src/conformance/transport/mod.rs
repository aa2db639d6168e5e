//! The suite that certifies a transport.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use trove_core::{conformance::transport, rpc::InProcess};
//!
//! let report = transport::certify("in process", InProcess::new()).await;
//! assert!(report.passed(), "{report}");
//! # });
//! ```

mod delivery;
mod fixture;
mod interruption;
mod queues;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::{
    CaseOutcome, Report,
    case::{self, Case},
    suite::{self, Suite, SuiteCase},
};
use crate::{
    error::{Error, Result},
    id::InstanceId,
    rpc::{InProcess, Transport},
};
use fixture::QueueFixture;

/// The time limit of one case.
const CASE_TIMEOUT: Duration = Duration::from_secs(180);

/// A transport under test, from both sides.
#[async_trait]
pub trait TransportTestbed: Send + Sync + 'static {
    /// Returns the transport of the control plane, which creates and removes queues.
    fn control(&self) -> Arc<dyn Transport>;

    /// Returns the transport of an instance's guest, which sends to the control plane and consumes
    /// its own queue. The queues of the instance exist.
    async fn guest(&self, instance: InstanceId) -> Result<Arc<dyn Transport>>;

    /// Breaks all connections once. [`Unsupported`](crate::error::Kind::Unsupported) if the
    /// transport has none.
    async fn interrupt(&self) -> Result<()>;
}

#[async_trait]
impl TransportTestbed for InProcess {
    fn control(&self) -> Arc<dyn Transport> {
        Arc::new(self.clone())
    }

    async fn guest(&self, _instance: InstanceId) -> Result<Arc<dyn Transport>> {
        Ok(self.control())
    }

    async fn interrupt(&self) -> Result<()> {
        Err(Error::unsupported("there is no connection to break"))
    }
}

/// Runs all cases on a testbed.
pub async fn certify(subject: &str, testbed: impl TransportTestbed) -> Report {
    suite::certify(subject, &TransportSuite::new(testbed), "", 1).await
}

/// The suite on one testbed. Cases run one at a time, because a case may break the connections of
/// all others.
pub(super) struct TransportSuite {
    testbed: Arc<dyn TransportTestbed>,
    turn: Mutex<()>,
}

impl TransportSuite {
    pub(super) fn new(testbed: impl TransportTestbed) -> Self {
        Self { testbed: Arc::new(testbed), turn: Mutex::default() }
    }
}

impl Suite for TransportSuite {
    type Case = Case<QueueFixture>;

    fn cases() -> Vec<SuiteCase<Self::Case>> {
        let groups =
            [("delivery", delivery::cases()), ("queues", queues::cases()), ("interruption", interruption::cases())];
        groups.into_iter().flat_map(|(group, cases)| suite::grouped(group, cases)).collect()
    }

    async fn run(&self, case: &Self::Case) -> CaseOutcome {
        let _turn = self.turn.lock().await;
        case::run(CASE_TIMEOUT, async {
            let fixture = QueueFixture::create(self.testbed.clone()).await;
            (case.run)(&fixture).await;
            fixture.remove().await;
        })
        .await
    }

    async fn close(&self) {}
}
