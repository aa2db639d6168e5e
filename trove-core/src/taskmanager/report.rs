use tokio::sync::oneshot;

use crate::store::InstanceReport;

/// A report on its way to the store.
#[derive(Debug)]
pub(crate) struct PendingReport {
    pub(crate) report: InstanceReport,
    /// Signaled once the report is stored; dropped if it could not be stored.
    pub(crate) stored: Option<oneshot::Sender<()>>,
}
