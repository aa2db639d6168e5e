//! Separate file systems for volumes, so that tests can fill them: image files on loop devices.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use trove_core::{
    datastore::GuestHost,
    error::{Error, Result},
};

use crate::container::{blocking, failed, own};

/// The file systems of one testbed.
pub(super) struct FileSystems {
    images: PathBuf,
    mounted: Mutex<BTreeSet<PathBuf>>,
}

impl FileSystems {
    pub(super) fn new(images: PathBuf) -> Self {
        Self { images, mounted: Mutex::default() }
    }

    /// Mounts a file system on an empty volume, if this process and this machine can.
    pub(super) async fn mount(this: &Arc<Self>, host: &GuestHost) -> Result<()> {
        let (this, host) = (Arc::clone(this), host.clone());
        blocking(move || {
            let volume = &host.volume;
            let mounted = this.try_mount(&host).map_err(|error| failed("create a file system", volume, error))?;
            if mounted {
                let owned = fs::remove_dir(volume.join("lost+found"))
                    .and_then(|()| own(volume, Some(host.server.uid), Some(host.server.gid), 0o700));
                owned.map_err(|error| failed("prepare a file system", volume, error))?;
            }
            Ok(())
        })
        .await
    }

    /// Unmounts and deletes the file system of a volume, if it has one.
    pub(super) async fn unmount(this: &Arc<Self>, host: &GuestHost) -> Result<()> {
        let (this, volume) = (Arc::clone(this), host.volume.clone());
        blocking(move || {
            if this.mounted().remove(&volume) {
                let image = this.image(&volume);
                let removed = unmount(&volume).and_then(|()| fs::remove_file(&image));
                removed.map_err(|error| failed("remove a file system", &volume, error))?;
            }
            Ok(())
        })
        .await
    }

    pub(super) fn unmount_all(&self) {
        for volume in std::mem::take(&mut *self.mounted()) {
            if let Err(error) = unmount(&volume) {
                tracing::error!(volume = %volume.display(), %error, "failed to unmount a file system");
            }
        }
    }

    /// Returns false if this process is not root, or the machine cannot create or mount file
    /// systems.
    fn try_mount(&self, host: &GuestHost) -> io::Result<bool> {
        if !rustix::process::geteuid().is_root() {
            return Ok(false);
        }
        let image = self.image(&host.volume);
        fs::create_dir_all(&self.images)?;
        File::create(&image)?.set_len(host.volume_size.as_bytes())?;
        // Without a journal, ext4 searches ever longer for an inode after many deletions.
        let options = ["-q", "-F", "-m", "0", "-J", "size=4"].map(OsStr::new);
        // The file system need not survive a crash of the machine.
        let mount = ["-o", "loop,nobarrier,data=writeback"].map(OsStr::new);
        let mounted = run("mkfs.ext4", options.into_iter().chain([image.as_os_str()]))
            && run("mount", mount.into_iter().chain([image.as_os_str(), host.volume.as_os_str()]));
        if !mounted {
            fs::remove_file(&image)?;
            return Ok(false);
        }
        self.mounted().insert(host.volume.clone());
        Ok(true)
    }

    fn image(&self, volume: &Path) -> PathBuf {
        self.images.join(volume.file_name().unwrap_or_default())
    }

    fn mounted(&self) -> std::sync::MutexGuard<'_, BTreeSet<PathBuf>> {
        self.mounted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns [`Unsupported`](trove_core::error::Kind::Unsupported) unless the volume is a separate
/// file system.
pub(super) fn require_own_file_system(host: &GuestHost) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev());
    match (device(&host.volume), device(&host.directory)) {
        (Ok(volume), Ok(other)) if volume != other => Ok(()),
        _ => Err(Error::unsupported("volumes are separate file systems only if the process is root")),
    }
}

fn unmount(volume: &Path) -> io::Result<()> {
    // A process that is exiting may still use it.
    let done = run("umount", [volume.as_os_str()]) || run("umount", ["-l".as_ref(), volume.as_os_str()]);
    if done { Ok(()) } else { Err(io::Error::other("umount failed")) }
}

fn run<'a>(program: &str, arguments: impl IntoIterator<Item = &'a OsStr>) -> bool {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            tracing::debug!(program, error = %String::from_utf8_lossy(&output.stderr), "program failed");
            false
        }
        Err(error) => {
            tracing::debug!(program, %error, "could not run program");
            false
        }
    }
}
