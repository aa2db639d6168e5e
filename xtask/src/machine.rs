//! What this machine is: who runs us, which programs are there, and how to install one.

use std::env;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::failure::{Failure, Result};
use crate::process::Task;

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let here = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    here.and_then(|xtask| xtask.parent().map(Path::to_path_buf)).unwrap_or_else(|| PathBuf::from("."))
}

/// Where build products and logs go.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Whether we run as root, and so may install and start things.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// Whether a program of this name can be started.
pub(crate) fn has(program: &str) -> bool {
    let runs =
        |file: PathBuf| fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    // An ordinary user's path leaves out the directories of daemons such as `dockerd`.
    let path = env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    env::split_paths(&path).any(|dir| runs(dir.join(program)))
}

/// Installs Debian packages, or says which command would.
pub(crate) fn apt_install(packages: &str, purpose: &str) -> Result<()> {
    let by_hand = format!("apt-get update && apt-get install -y {packages}");
    if !has("apt-get") {
        return Err(Failure::new(format!(
            "{purpose} needs `{packages}`: install it with this system's package manager"
        )));
    }
    if !is_root() {
        return Err(Failure::new(format!("{purpose} needs `{packages}`: run `{by_hand}` as root, then try again")));
    }
    eprintln!("{purpose} needs `{packages}`: installing it");
    apt_get(["update", "--quiet=2"].as_slice())?;
    let mut install = vec!["install", "--yes", "--quiet=2"];
    install.extend(packages.split(' '));
    apt_get(&install)
}

fn apt_get(args: &[&str]) -> Result<()> {
    Task::new("apt-get").args(args).env("DEBIAN_FRONTEND", "noninteractive").limit(Duration::from_mins(10)).run()
}
