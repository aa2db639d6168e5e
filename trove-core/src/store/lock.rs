//! The lock that ensures that one control plane at a time serves a store.

#[cfg(feature = "sqlite")]
use std::{
    fs::{File, OpenOptions, Permissions, TryLockError},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
};

use super::db::Db;
use crate::error::{Error, Result};

/// A held lock. The operating system or the database server releases it when the process dies.
pub(super) enum StoreLock {
    #[cfg(feature = "sqlite")]
    File(#[allow(dead_code, reason = "locked until it is dropped")] File),
    #[cfg(feature = "postgres")]
    Session(sqlx::PgConnection),
    /// A store in memory cannot be shared.
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
                None => Err(Error::conflict("the store is in use by another process")),
            },
        }
    }

    /// Releases the lock at once, instead of when the server notices the lost connection.
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
    let failed = |error: std::io::Error| Error::internal("could not lock the store").with_source(error);
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&name).map_err(failed)?;
    // A user who can open the file can lock it.
    file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(StoreLock::File(file)),
        Err(TryLockError::WouldBlock) => {
            Err(Error::conflict(format!("the store {} is in use by another process", store.display())))
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;

    #[test]
    fn other_users_cannot_open_the_lock_file() {
        let directory = tempfile::tempdir().unwrap();
        let (store, lock) = (directory.path().join("trove.db"), directory.path().join("trove.db.lock"));
        File::create(&lock).unwrap().set_permissions(Permissions::from_mode(0o644)).unwrap();
        for _ in 0..2 {
            drop(take_file(&store).unwrap());
            assert_eq!(lock.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            std::fs::remove_file(&lock).unwrap();
        }
    }
}
