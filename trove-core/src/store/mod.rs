//! The store: instances, the journal of their operations, configuration groups and the registry of
//! versions, on SQLite or PostgreSQL.
//!
//! [`Trove`](crate::Trove) opens and uses it; see
//! [`Builder::store`](crate::control::Builder::store). An implementer tests it by its [conformance
//! suite](crate::conformance::store).
//!
//! - `sqlite:trove.db` is embedded. Each commit is synced to disk.
//! - `postgres://user:password@host/database` is on a server, so that a service on another host can
//!   take over.
//!
//! One control plane serves a store at a time. It holds a lock: on a file beside the SQLite file,
//! or an advisory lock of the PostgreSQL database. A second one gets
//! [`Conflict`](crate::error::Kind::Conflict) until the first has ended. Leases and epochs protect
//! the journal even if two should run at once. Both databases run the same SQL text.

mod configurations;
mod db;
mod identities;
mod instances;
mod journal;
mod lock;
mod rewrap;
mod rows;
mod schema;
mod scratch_servers;
mod versions;

use std::{fmt, path::PathBuf, sync::Arc};

use parking_lot::Mutex;

pub(crate) use instances::{EarlierHealth, InstanceReport};
pub(crate) use journal::{
    CancelMode, InsertOutcome, InstanceChange, InstanceRelease, Journal, JournalEntry, JournalRecord, NewOperation,
};
pub(crate) use rewrap::Rewrapped;
pub(crate) use versions::StoredVersion;

use crate::error::Result;

/// A connection pool to the store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<StoreInner>,
}

struct StoreInner {
    db: db::Db,
    lock: Mutex<Option<lock::StoreLock>>,
}

impl Store {
    /// Opens the store at a URL, creates a SQLite file that does not exist, and migrates the
    /// schema.
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::error::Kind::Conflict) if another process serves the store;
    /// [`Unavailable`](crate::error::Kind::Unavailable) if the database server does not respond.
    pub async fn connect(url: &str) -> Result<Self> {
        let db = db::Db::connect(url).await?;
        let lock = lock::StoreLock::take(&db).await?;
        schema::migrate(&db).await?;
        // The lock proves that no former owner runs, so that its leases need not expire first.
        db.execute("UPDATE operations SET lease_until = 0 WHERE finished = 0", &[]).await?;
        Ok(Self { inner: Arc::new(StoreInner { db, lock: Mutex::new(Some(lock)) }) })
    }

    /// Returns the file of an embedded store; `None` for a store in memory or on a server.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        self.db().file()
    }

    /// Closes all connections after their statements have ended, and releases the lock.
    pub async fn close(&self) {
        self.inner.db.close().await;
        let lock = self.inner.lock.lock().take();
        if let Some(lock) = lock {
            lock.release().await;
        }
    }

    fn db(&self) -> &db::Db {
        &self.inner.db
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}
