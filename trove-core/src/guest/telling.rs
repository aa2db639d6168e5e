use tokio::sync::oneshot;

use crate::store::InstanceReport;

/// A report on its way to the store.
#[derive(Debug)]
pub struct Telling {
    /// What is told.
    pub report: InstanceReport,
    /// Who waits until it is stored; dropped where it could not be.
    pub stored: Option<oneshot::Sender<()>>,
}
