//! This machine: its user, programs and directories, and the installation of packages.

use std::env;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::Command;
use crate::error::{Error, Result};

/// Returns the root of the repository.
pub(crate) fn repository() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    manifest.and_then(|xtask| xtask.parent().map(Path::to_path_buf)).unwrap_or_else(|| PathBuf::from("."))
}

/// Returns the directory for build products and logs.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), |dir| repository().join(dir))
}

/// Returns true if this process runs as root, and so can install packages and start services.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Returns true if the search path has an executable of this name.
pub(crate) fn has_program(name: &str) -> bool {
    let is_executable =
        |file: PathBuf| fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    // The search path of an ordinary user omits the directories of daemons such as `dockerd`.
    let path = env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    env::split_paths(&path).any(|dir| is_executable(dir.join(name)))
}

/// Serializes the set-up of this machine between runs, so that they do not install packages, start
/// the engine or build images at the same time. The lock is released when the returned file is
/// dropped.
pub(crate) fn lock_setup() -> Result<File> {
    let path = env::temp_dir().join("trove-xtask-setup.lock");
    // Another user's file in a sticky directory can be locked, but not be opened with O_CREAT.
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => File::create_new(&path).or_else(|_| File::open(&path)),
        opened => opened,
    };
    let locked = file.and_then(|file| file.lock().map(|()| file));
    locked.map_err(|error| Error::new(format!("could not lock {}: {error}", path.display())))
}

/// Installs Debian packages, or says which command would.
pub(crate) fn apt_install(packages: &str, purpose: &str) -> Result<()> {
    let command = format!("apt-get update && apt-get install -y {packages}");
    if !has_program("apt-get") {
        return Err(Error::new(format!("{purpose} needs `{packages}`: install it with this system's package manager")));
    }
    if !is_root() {
        return Err(Error::new(format!("{purpose} needs `{packages}`: run `{command}` as root, then try again")));
    }
    eprintln!("{purpose} needs `{packages}`: installing it");
    apt_get(["update", "--quiet=2"].as_slice())?;
    let mut install = vec!["install", "--yes", "--quiet=2"];
    install.extend(packages.split(' '));
    apt_get(&install)
}

fn apt_get(args: &[&str]) -> Result<()> {
    let command = Command::new("apt-get").args(["--option", "DPkg::Lock::Timeout=600"]).args(args);
    command.env("DEBIAN_FRONTEND", "noninteractive").timeout(Duration::from_mins(20)).run()
}
