//! The lock that keeps a second control process off a store: guests live in the process that serves it.

#[cfg(feature = "sqlite")]
use std::fs::{File, OpenOptions, TryLockError};

use super::db::Db;
use crate::error::{Error, Result};

/// Held for as long as it lives; the operating system, or the database server, lets go of it when the process dies.
pub(super) enum StoreLock {
    #[cfg(feature = "sqlite")]
    File(#[allow(dead_code, reason = "held, not read")] File),
    #[cfg(feature = "postgres")]
    Session(sqlx::PgConnection),
    /// A store in memory is nobody else's.
    #[cfg(feature = "sqlite")]
    Unneeded,
}

impl StoreLock {
    pub(super) async fn take(db: &Db) -> Result<Self> {
        match db {
            #[cfg(feature = "sqlite")]
            Db::Sqlite { file: None, .. } => Ok(Self::Unneeded),
            #[cfg(feature = "sqlite")]
            Db::Sqlite { file: Some(file), .. } => take_file(file),
            #[cfg(feature = "postgres")]
            Db::Postgres(pool) => match super::db::lock_session(pool).await? {
                Some(session) => Ok(Self::Session(session)),
                None => Err(Error::conflict("another process serves the store")),
            },
        }
    }

    /// Lets go of it, so that another process has it at once and not only when the server sees this one gone.
    pub(super) async fn release(self) {
        match self {
            #[cfg(feature = "postgres")]
            Self::Session(session) => super::db::unlock_session(session).await,
            #[cfg(feature = "sqlite")]
            Self::File(_) | Self::Unneeded => {}
        }
    }
}

#[cfg(feature = "sqlite")]
fn take_file(store: &std::path::Path) -> Result<StoreLock> {
    let mut name = store.as_os_str().to_owned();
    name.push(".lock");
    let failed = |error: std::io::Error| Error::internal("the store's lock file cannot be used").because(error);
    let file = OpenOptions::new().create(true).append(true).open(&name).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(StoreLock::File(file)),
        Err(TryLockError::WouldBlock) => {
            Err(Error::conflict(format!("another process serves the store {}", store.display())))
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}
