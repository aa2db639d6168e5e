//! Durable files: the one implementation of "replace a file atomically".

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

/// The mode of a file that only its owner may use.
const PRIVATE: u32 = 0o600;

/// Replaces the content of a file atomically and durably, with mode 0600.
///
/// After a crash or a power failure the file has either its old or its new content. When this
/// returns, the new content is on disk. The new content is staged in a file beside it with the
/// extension `.new` appended; callers that may write the same file at once have to take turns, for
/// example by a lock. Blocks.
///
/// # Errors
///
/// The file keeps its old content, unless only the last step, syncing the directory, failed.
///
/// ```
/// # let directory = std::env::temp_dir().join(format!("trove-replace-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
/// let file = directory.join("state.json");
/// trove_core::fs::replace(&file, b"{\"epoch\":1}")?;
/// trove_core::fs::replace(&file, b"{\"epoch\":2}")?;
/// assert_eq!(std::fs::read_to_string(&file)?, "{\"epoch\":2}");
/// # std::fs::remove_dir_all(&directory)?;
/// # Ok::<_, std::io::Error>(())
/// ```
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_with_mode(path, content, PRIVATE, None)
}

/// Replaces the content of a file like [`replace`], with this mode and, if given, this group.
pub fn replace_with_mode(path: &Path, content: &[u8], mode: u32, group: Option<u32>) -> io::Result<()> {
    let mut staged = path.as_os_str().to_owned();
    staged.push(".new");
    let staged = PathBuf::from(staged);
    let replaced = stage(&staged, content, mode, group).and_then(|()| fs::rename(&staged, path));
    if replaced.is_err() {
        // On a full disk it takes up room that others need.
        let _ = fs::remove_file(&staged);
    }
    replaced?;
    sync_directory(path)
}

/// Writes a new file and syncs it. Never writes through a link or into a file that a crash left.
fn stage(staged: &Path, content: &[u8], mode: u32, group: Option<u32>) -> io::Result<()> {
    match fs::remove_file(staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(staged)?;
    file.write_all(content)?;
    if group.is_some() {
        fchown(&file, None, group)?;
    }
    // Independent of the umask, and after the group: a change of the group may clear bits.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

/// Makes a change of the directory that holds this path durable.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn replace_leaves_only_the_new_content_with_the_requested_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        fs::write(&path, "a longer old content").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let group = fs::metadata(&path).unwrap().gid();
        replace_with_mode(&path, b"", 0o660, Some(group)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o660);
        assert_eq!(names(directory.path()), ["state.json"]);
    }

    #[test]
    fn leftover_staging_files_are_not_reused_and_links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("state"), directory.path().join("other"));
        fs::write(&other, "untouched").unwrap();
        symlink(&other, directory.path().join("state.new")).unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(!fs::symlink_metadata(&path).unwrap().is_symlink());
        assert_eq!(fs::read(&other).unwrap(), b"untouched");
    }

    #[test]
    fn failed_replacement_keeps_the_old_content_and_no_staging_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("occupied");
        fs::create_dir(&path).unwrap();
        assert!(replace(&path, b"new").is_err());
        assert_eq!(names(directory.path()), ["occupied"]);
        assert!(replace(&directory.path().join("absent/state"), b"new").is_err());
    }
}
