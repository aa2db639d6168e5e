//! The store: instances, the journal of their operations, configuration groups and the registry of versions, on SQLite or PostgreSQL.
//!
//! ```
//! # tokio_test(async {
//! use trove_core::store::Store;
//!
//! let store = Store::connect("sqlite::memory:").await?;
//! assert!(store.instances(None, None, 10).await?.is_empty());
//! # trove_core::error::Result::Ok(()) });
//! # fn tokio_test(f: impl Future<Output = trove_core::error::Result<()>>) {
//! #     tokio::runtime::Runtime::new().unwrap().block_on(f).unwrap()
//! # }
//! ```
//!
//! - `sqlite:trove.db` is embedded. Every commit reaches the disk before it counts.
//! - `postgres://user:password@host/database` lives on a server, from where the service of another host can take over.
//!
//! One control process serves a store at a time: it holds a lock beside the SQLite file, or an advisory lock of the
//! PostgreSQL database, and whoever comes second is refused until it is gone. Leases and epochs guard the journal beyond
//! that, should two ever meet. Both run the same SQL text and pass the same [suite](crate::conformance::store).

mod configurations;
mod datastores;
mod db;
mod identities;
mod instances;
mod journal;
mod lock;
mod rows;
mod schema;
mod sealed;
mod trials;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

pub use datastores::StoredVersion;
pub use identities::StoredIdentity;
pub use instances::{Admitted, Report};
pub use journal::{Cancel, Entry, InstanceChange, InstanceRelease, Journal, NewOperation, Record};
pub(crate) use sealed::Resealed;

use crate::error::Result;

/// A connection pool to the store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    db: db::Db,
    lock: Mutex<Option<lock::StoreLock>>,
}

impl Store {
    /// Opens the store at a URL, makes it where it is an absent SQLite file, and brings its tables up to date.
    ///
    /// [`Conflict`](crate::error::Kind::Conflict) where another process serves the same store;
    /// [`Unavailable`](crate::error::Kind::Unavailable) where the server does not answer.
    pub async fn connect(url: &str) -> Result<Self> {
        let db = db::Db::connect(url).await?;
        let lock = lock::StoreLock::take(&db).await?;
        schema::migrate(&db).await?;
        // Nobody else can be alive: what a killed process held need not wait for its leases.
        db.execute("UPDATE operations SET lease_until = 0 WHERE finished = 0", &[]).await?;
        Ok(Self { inner: Arc::new(Inner { db, lock: Mutex::new(Some(lock)) }) })
    }

    /// The file of an embedded store; `None` for one in memory or on a server.
    pub fn file(&self) -> Option<PathBuf> {
        self.db().file()
    }

    /// Closes all connections, once what runs on them has ended, and lets another process have the store.
    pub async fn close(&self) {
        self.inner.db.close().await;
        let lock = self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
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
