use std::{future::Future, time::Duration};

use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};
use trove_core::{
    datastore::Cx,
    error::{Error, Result},
};

/// The time limit of one call. Each statement has a limit of its own.
const CALL_LIMIT: Duration = Duration::from_secs(120);

/// How long to wait for an earlier change, and how often to check for its end.
const FORMER_LIMIT: Duration = Duration::from_secs(60);
const FORMER_PAUSE: Duration = Duration::from_millis(20);

/// Serializes and limits the administrator's calls to one server.
#[derive(Debug, Default)]
pub(crate) struct AdminCalls {
    /// Held by the one call at a time that changes something: servers let concurrent changes fail
    /// each other.
    changes: Mutex<()>,
}

impl AdminCalls {
    /// Runs a read-only call within the time limit, until it is cancelled.
    pub(crate) async fn read<T>(&self, cx: &Cx, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        cx.check()?;
        tokio::select! {
            done = timeout(CALL_LIMIT, cx.waiting("ask the server", work)) => {
                done.unwrap_or_else(|_| Err(Error::timeout("the database server took too long")))
            }
            () = cx.cancelled() => Err(Error::cancelled("the operation was cancelled")),
        }
    }

    /// Runs a call that changes something, under the same conditions, one at a time.
    pub(crate) async fn change<T>(&self, cx: &Cx, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.read(cx, async {
            let _turn = self.changes.lock().await;
            work.await
        })
        .await
    }
}

/// Waits a moment for earlier changes to end, within a limit. A server completes a statement whose
/// caller has disconnected, so what is read before that is not final.
pub(crate) async fn wait_for_earlier_change(since: Instant) -> Result<()> {
    if since.elapsed() > FORMER_LIMIT {
        return Err(Error::busy("the database server is still executing a cancelled change"));
    }
    sleep(FORMER_PAUSE).await;
    Ok(())
}
