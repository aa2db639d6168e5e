use std::{future::Future, time::Duration};

use tokio::{sync::Mutex, time::timeout};
use trove_core::{
    datastore::Cx,
    error::{Error, Result},
};

/// How long one call may take; each statement has a limit of its own.
const CALL_LIMIT: Duration = Duration::from_secs(120);

/// The calls to one server that read or change what is in it.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// Held by the one call at a time that changes anything: servers let two of them fail each other.
    changes: Mutex<()>,
}

impl Calls {
    /// Does what only reads, for as long as its limit allows and nobody gives it up.
    pub(crate) async fn read<T>(&self, cx: &Cx, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        cx.check()?;
        tokio::select! {
            done = timeout(CALL_LIMIT, cx.waiting("ask the server", work)) => {
                done.unwrap_or_else(|_| Err(Error::timeout("the database server took too long")))
            }
            () = cx.cancelled() => Err(Error::cancelled("the operation was cancelled")),
        }
    }

    /// The same for what changes something.
    pub(crate) async fn change<T>(&self, cx: &Cx, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.read(cx, async {
            let _turn = self.changes.lock().await;
            work.await
        })
        .await
    }
}
