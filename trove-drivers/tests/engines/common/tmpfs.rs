//! A file system that is small enough to fill.

use std::process::Command;

use tempfile::TempDir;

/// A mounted tmpfs, unmounted when dropped.
pub struct TmpfsMount(pub TempDir);

impl TmpfsMount {
    pub fn new(mib: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let size = format!("size={mib}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(directory.path()).status();
        assert!(mounted.unwrap().success(), "could not mount a tmpfs; this test must run as root");
        Self(directory)
    }
}

impl Drop for TmpfsMount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}
