use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use parking_lot::{Condvar, Mutex};
use trove_core::{error::Result, id::InstanceId};

use super::make_private;
use crate::container::{failed, own, remove_tree};

/// Directories that are being deleted, so that a partly deleted one is never used.
#[derive(Debug)]
pub(super) struct Trash {
    directory: PathBuf,
    /// The names that are being deleted, each by one call at a time.
    busy: Mutex<HashSet<String>>,
    freed: Condvar,
}

/// The exclusive right to delete a name.
struct Claim<'a> {
    trash: &'a Trash,
    name: String,
}

impl Trash {
    /// Returns the trash in this directory, and deletes what an earlier process left in it. Blocks.
    pub(super) fn swept(directory: PathBuf) -> Result<Self> {
        if let Err(error) = remove_tree(&directory) {
            tracing::warn!(path = %directory.display(), %error, "failed to sweep the trash");
        }
        make_private(&directory).map_err(|error| failed("create the directory", &directory, error))?;
        Ok(Self { directory, busy: Mutex::default(), freed: Condvar::new() })
    }

    /// Deletes a directory of an instance while holding what `hold` returns; returns false if that
    /// would block. An absent directory is deleted. Concurrent calls wait for each other. Blocks.
    pub(super) fn discard<T>(
        &self,
        path: &Path,
        kind: &str,
        instance: InstanceId,
        hold: impl FnOnce() -> io::Result<T>,
    ) -> Result<bool> {
        let claim = self.claim(format!("{kind}-{instance}"));
        let trash = self.directory.join(&claim.name);
        let done = || -> io::Result<bool> {
            remove_tree(&trash)?;
            let _held = match hold() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                held => held?,
            };
            // A directory that is moved has to be writable, which its server may have forbidden.
            match own(path, None, None, 0o700).and_then(|()| fs::rename(path, &trash)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
                moved => moved?,
            }
            if let Some(parent) = path.parent() {
                File::open(parent)?.sync_all()?;
            }
            remove_tree(&trash)?;
            Ok(true)
        };
        done().map_err(|error| failed("delete a directory of an instance", path, error))
    }

    fn claim(&self, name: String) -> Claim<'_> {
        let mut busy = self.busy.lock();
        self.freed.wait_while(&mut busy, |busy| busy.contains(&name));
        busy.insert(name.clone());
        Claim { trash: self, name }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.trash.busy.lock().remove(&self.name);
        self.trash.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, thread};

    use super::*;

    #[test]
    fn directories_without_permissions_are_discarded() {
        let directory = tempfile::tempdir().unwrap();
        let trash = Trash::swept(directory.path().join("trash")).unwrap();
        let volume = directory.path().join("volume");
        fs::create_dir_all(volume.join("inner/most")).unwrap();
        for path in [volume.join("inner/most"), volume.join("inner"), volume.clone()] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
        }
        assert!(trash.discard(&volume, "volume", InstanceId::new_v4(), || Ok(())).unwrap());
        assert!(!volume.exists());
        assert_eq!(fs::read_dir(directory.path().join("trash")).unwrap().count(), 0);
    }

    #[test]
    fn concurrent_discards_of_one_directory_all_succeed() {
        let directory = tempfile::tempdir().unwrap();
        let trash = Trash::swept(directory.path().join("trash")).unwrap();
        let (volume, instance) = (directory.path().join("volume"), InstanceId::new_v4());
        for _ in 0..20 {
            fs::create_dir_all(volume.join("a/b/c")).unwrap();
            fs::create_dir_all(volume.join("d/e")).unwrap();
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        assert!(trash.discard(&volume, "volume", instance, || Ok(())).unwrap());
                        assert_eq!(fs::read_dir(directory.path().join("trash")).unwrap().count(), 0);
                    });
                }
            });
        }
    }
}
