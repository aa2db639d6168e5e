//! The copy of an instance's data that an upgrade makes before the new release may change it. It is
//! stored beside the data on the volume:
//!
//! ```text
//! <data>.before.new   the copy while it is being made
//! <data>.before       the complete copy; while it exists, the data belongs to the new release
//! <data>.after        the new release's data, being removed
//! ```
//!
//! Everything here blocks.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use trove_core::error::{Error, Result};

use super::{
    failed,
    host_paths::HostPaths,
    safe_fs::{CopyOptions, copy_tree, remove_tree},
    state_file::{self, StateFile},
    upgrade_state::UpgradeState,
};

impl HostPaths {
    /// Returns the state of the last upgrade, if there was one.
    pub(crate) fn upgrade_state(&self) -> Result<Option<UpgradeState>> {
        match state_file::read(&self.upgrade())? {
            StateFile::Absent => Ok(None),
            StateFile::Found(note) => Ok(Some(note)),
            StateFile::Damaged => {
                let why = "the state of an upgrade is damaged: it is unknown which release the data belongs to";
                Err(Error::corrupt(why).with("path", self.upgrade().display()))
            }
        }
    }

    pub(crate) fn record_upgrade(&self, note: &UpgradeState) -> Result<()> {
        state_file::write(&self.upgrade(), note)
    }

    /// Records that the upgrade cannot be reverted any more, and removes the copies.
    pub(crate) fn commit_upgrade(&self) -> Result<()> {
        if let Some(note) = self.upgrade_state()? {
            self.record_upgrade(&UpgradeState { committed: true, ..note })?;
        }
        self.drop_copies()
    }

    /// Removes the state of the upgrade and the copies.
    pub(crate) fn clear_upgrade(&self) -> Result<()> {
        state_file::remove(&self.upgrade())?;
        self.drop_copies()
    }

    fn drop_copies(&self) -> Result<()> {
        for path in [self.copy(), self.draft(), self.outgoing()] {
            remove_tree(&path).map_err(|error| failed("remove the copy of the data", &path, error))?;
        }
        Ok(())
    }

    /// Returns true if there is a complete copy.
    pub(crate) fn has_copy(&self) -> Result<bool> {
        exists(&self.copy()).map_err(|error| failed("check for the copy of the data", &self.copy(), error))
    }

    /// Copies the data of a stopped server.
    pub(crate) fn copy_aside(&self, progress: &dyn Fn(u64) -> bool) -> Result<()> {
        let done = || -> io::Result<()> {
            remove_tree(&self.draft())?;
            let server = self.server();
            let owner = Some((server.uid, server.gid));
            let how = CopyOptions { owner, links: true, without: &|_| false, durable: true, progress };
            copy_tree(&self.data(), &self.draft(), &how)?;
            fs::rename(self.draft(), self.copy())?;
            self.sync_volume()
        };
        done().map_err(|error| failed("copy the data", &self.data(), error))
    }

    /// Replaces the data with the copy, if there is one. Can be repeated after an interruption.
    pub(crate) fn put_copy_back(&self) -> Result<()> {
        let done = || -> io::Result<()> {
            if !exists(&self.copy())? {
                return Ok(());
            }
            if exists(&self.data())? {
                remove_tree(&self.outgoing())?;
                fs::rename(self.data(), self.outgoing())?;
            }
            fs::rename(self.copy(), self.data())?;
            self.sync_volume()
        };
        done().map_err(|error| failed("restore the data", &self.data(), error))
    }

    fn sync_volume(&self) -> io::Result<()> {
        File::open(self.data().parent().unwrap_or(Path::new("/")))?.sync_all()
    }

    fn copy(&self) -> PathBuf {
        self.data().with_added_extension("before")
    }

    fn draft(&self) -> PathBuf {
        self.data().with_added_extension("before.new")
    }

    fn outgoing(&self) -> PathBuf {
        self.data().with_added_extension("after")
    }
}

fn exists(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
