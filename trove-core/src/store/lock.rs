//! The lock that keeps a second control process off a SQLite store.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::Path,
};

use crate::error::{Error, Result};

/// Held for as long as it lives; the operating system lets go of it when the process dies.
pub(super) struct StoreLock {
    _file: File,
}

impl StoreLock {
    pub(super) fn take(store: &Path) -> Result<Self> {
        let mut name = store.as_os_str().to_owned();
        name.push(".lock");
        let failed = |error: std::io::Error| Error::internal("the store's lock file cannot be used").because(error);
        let file = OpenOptions::new().create(true).append(true).open(&name).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => {
                Err(Error::conflict(format!("another process serves the store {}", store.display())))
            }
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}
