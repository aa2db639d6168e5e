use std::{future::Future, time::Duration};

use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};
use trove_core::{
    datastore::Cx,
    error::{Error, Result},
};

/// How long one call may take; each statement has a limit of its own.
const CALL_LIMIT: Duration = Duration::from_secs(120);

/// How long a former change may go on, and how long apart it is looked whether it does.
const FORMER_LIMIT: Duration = Duration::from_secs(60);
const FORMER_PAUSE: Duration = Duration::from_millis(20);

/// The calls to one server that read or change what is in it.
#[derive(Debug, Default)]
pub(crate) struct AdminCalls {
    /// Held by the one call at a time that changes anything: servers let two of them fail each other.
    changes: Mutex<()>,
}

impl AdminCalls {
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

/// Waits a moment, for as long as is right, for former changes to end: a server goes on with a statement whose caller is
/// gone, and what is found before it ends is not what there is after.
pub(crate) async fn wait_for_earlier_change(since: Instant) -> Result<()> {
    if since.elapsed() > FORMER_LIMIT {
        return Err(Error::busy("the database server is still making a change that was given up"));
    }
    sleep(FORMER_PAUSE).await;
    Ok(())
}
