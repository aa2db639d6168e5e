//! The copy of an instance's data that an upgrade makes before it lets the new release change it, beside it on the
//! volume:
//!
//! ```text
//! <data>.before.new   the copy, while it is made
//! <data>.before       the copy; from when it is there until it is put back, the data is the new release's
//! <data>.after        what the new release made of the data, on its way out
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
    /// The upgrade that has begun or was concluded last, if one was.
    pub(crate) fn upgrade_note(&self) -> Result<Option<UpgradeState>> {
        match state_file::read(&self.upgrade())? {
            StateFile::Absent => Ok(None),
            StateFile::Found(note) => Ok(Some(note)),
            StateFile::Damaged => {
                let why = "the note of an upgrade is damaged, so that it is unknown which release the data belongs to";
                Err(Error::corrupt(why).with("path", self.upgrade().display()))
            }
        }
    }

    pub(crate) fn note_upgrade(&self, note: &UpgradeState) -> Result<()> {
        state_file::write(&self.upgrade(), note)
    }

    /// Notes that there is no way back, and drops what only that would need.
    pub(crate) fn conclude_upgrade(&self) -> Result<()> {
        if let Some(note) = self.upgrade_note()? {
            self.note_upgrade(&UpgradeState { concluded: true, ..note })?;
        }
        self.drop_copies()
    }

    /// Forgets the upgrade and drops what only the way back would need.
    pub(crate) fn forget_upgrade(&self) -> Result<()> {
        state_file::remove(&self.upgrade())?;
        self.drop_copies()
    }

    fn drop_copies(&self) -> Result<()> {
        for path in [self.copy(), self.draft(), self.outgoing()] {
            remove_tree(&path).map_err(|error| failed("remove the copy of the data", &path, error))?;
        }
        Ok(())
    }

    /// True where there is the whole copy.
    pub(crate) fn has_copy(&self) -> Result<bool> {
        exists(&self.copy()).map_err(|error| failed("look for the copy of the data", &self.copy(), error))
    }

    /// Copies the data of a server that is at rest.
    pub(crate) fn copy_aside(&self, going_on: &dyn Fn(u64) -> bool) -> Result<()> {
        let done = || -> io::Result<()> {
            remove_tree(&self.draft())?;
            let server = self.server();
            let owner = Some((server.uid, server.gid));
            let how = CopyOptions { owner, links: true, without: &|_| false, durable: true, going_on };
            copy_tree(&self.data(), &self.draft(), &how)?;
            fs::rename(self.draft(), self.copy())?;
            self.sync_volume()
        };
        done().map_err(|error| failed("copy the data", &self.data(), error))
    }

    /// Puts the copy in the place of the data, if there is one. May be repeated after it broke off.
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
        done().map_err(|error| failed("put the data back", &self.data(), error))
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
