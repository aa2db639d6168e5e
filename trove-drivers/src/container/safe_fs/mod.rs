//! Deletes, measures and copies directory trees that a hostile server may have made: without
//! following links, and with bounds on open files, stack and memory whatever their shape.
//! Everything here blocks.

mod copy;

use std::{
    collections::HashSet,
    ffi::CStr,
    fs::{self, Permissions},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::Path,
    time::{Duration, Instant},
};

pub(crate) use copy::{CopyOptions, copy_tree, copy_tree_with_digest};
use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fchmod, fstat, openat, renameat, statat, unlinkat},
    io::Errno,
    path::Arg,
};

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The bounds of a measurement.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    entries: usize,
    depth: usize,
    time: Duration,
}

/// Far beyond the data of any engine.
const BOUNDS: Bounds = Bounds { entries: 1_000_000, depth: 64, time: Duration::from_secs(5) };

/// Removes a file or a directory and its content without following links. An absent path is `Ok`.
///
/// Subdirectories are first moved up into the top directory, so that none has to be kept open or
/// remembered. Missing permissions are granted first.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match unlinkat(CWD, path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    let removed = open_writable(CWD, path).and_then(|top| {
        Emptying { top, moved: 0 }.run()?;
        unlinkat(CWD, path, AtFlags::REMOVEDIR)
    });
    match removed {
        Err(Errno::NOENT) => Ok(()),
        removed => removed.map_err(io::Error::from),
    }
}

/// Returns the space that the files below a directory occupy. Files that remove_everything during the
/// measurement are ignored. Returns `None` if a part cannot be read or the tree exceeds the bounds.
pub(crate) fn occupied(root: &Path) -> Option<u64> {
    measure(root, BOUNDS)
}

/// A directory that is being emptied.
struct Emptying {
    top: OwnedFd,
    /// The number of directories that were moved up, which names the next one.
    moved: u64,
}

impl Emptying {
    /// Iterates over the top directory until it is empty: moved directories appear during the
    /// iteration.
    fn run(&mut self) -> rustix::io::Result<()> {
        let mut entries = Dir::read_from(&self.top)?;
        loop {
            let (mut found, mut done) = (false, false);
            entries.rewind();
            while let Some(entry) = entries.read() {
                let entry = entry?;
                let name = entry.file_name();
                if is_itself(name.to_bytes()) {
                    continue;
                }
                found = true;
                done |= match unlinkat(&self.top, name, AtFlags::empty()) {
                    Ok(()) => true,
                    Err(Errno::NOENT) => false,
                    Err(Errno::ISDIR) => self.dissolve(name)?,
                    Err(error) => return Err(error),
                };
            }
            match (found, done) {
                (false, _) => return Ok(()),
                (true, true) => {}
                (true, false) => return Err(Errno::NOTEMPTY),
            }
        }
    }

    /// Removes a subdirectory and moves its own subdirectories up. Returns true if that changed
    /// anything.
    fn dissolve(&mut self, name: &CStr) -> rustix::io::Result<bool> {
        let directory = match open_writable(&self.top, name) {
            Err(Errno::NOENT) => return Ok(false),
            opened => opened?,
        };
        let (mut entries, mut done) = (Dir::read_from(&directory)?, false);
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let inner = entry.file_name();
            if is_itself(inner.to_bytes()) {
                continue;
            }
            match unlinkat(&directory, inner, AtFlags::empty()) {
                Ok(()) => done = true,
                Err(Errno::NOENT) => {}
                Err(Errno::ISDIR) => done |= self.move_up(&directory, inner)?,
                Err(error) => return Err(error),
            }
        }
        match unlinkat(&self.top, name, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(true),
            // Something was left or added; the next round finds it.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => Ok(done),
            Err(error) => Err(error),
        }
    }

    fn move_up(&mut self, from: &OwnedFd, name: &CStr) -> rustix::io::Result<bool> {
        let mut allowed = false;
        loop {
            let target = format!("moved-{}", self.moved);
            self.moved += 1;
            match renameat(from, name, &self.top, &target) {
                Ok(()) => return Ok(true),
                Err(Errno::NOENT) => return Ok(false),
                // The name is taken.
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                // A directory that is moved has to be writable, because it refers to its parent.
                Err(Errno::ACCESS) if !allowed => {
                    allow(from, name)?;
                    allowed = true;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn measure(root: &Path, bounds: Bounds) -> Option<u64> {
    let begun = Instant::now();
    let (mut bytes, mut seen, mut linked) = (0_u64, 0, HashSet::new());
    let mut open: Vec<Dir> = open_readable(CWD, root).into_iter().collect();
    while let Some(directory) = open.last_mut() {
        let Some(Ok(entry)) = directory.read() else {
            open.pop();
            continue;
        };
        let name = entry.file_name();
        if is_itself(name.to_bytes()) {
            continue;
        }
        seen += 1;
        if seen > bounds.entries || begun.elapsed() > bounds.time {
            return None;
        }
        let Ok(within) = directory.fd() else { continue };
        let Ok(found) = statat(within, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let is_directory = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        if is_directory || found.st_nlink == 1 || linked.insert(found.st_ino) {
            bytes = bytes.saturating_add(u64::try_from(found.st_blocks).unwrap_or(0).saturating_mul(512));
        }
        if is_directory {
            match open_readable(within, name) {
                Ok(_) if open.len() == bounds.depth => return None,
                Ok(inner) => open.push(inner),
                // It was removed or replaced.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(_) => return None,
            }
        }
    }
    Some(bytes)
}

fn open_readable(at: BorrowedFd<'_>, name: impl Arg) -> rustix::io::Result<Dir> {
    Dir::new(openat(at, name, DIRECTORY | OFlags::RDONLY, Mode::empty())?)
}

/// Opens a directory for listing and changing.
fn open_writable(at: impl AsFd, name: impl Arg + Copy) -> rustix::io::Result<OwnedFd> {
    let open = || openat(&at, name, DIRECTORY | OFlags::RDONLY, Mode::empty());
    let directory = match open() {
        Err(Errno::ACCESS) => {
            allow(&at, name)?;
            open()?
        }
        opened => opened?,
    };
    if !Mode::from_raw_mode(fstat(&directory)?.st_mode).contains(Mode::RWXU) {
        fchmod(&directory, Mode::RWXU)?;
    }
    Ok(directory)
}

/// Grants the owner of a directory all permissions, even if it cannot be opened.
fn allow(at: impl AsFd, name: impl Arg) -> rustix::io::Result<()> {
    let directory = openat(at, name, DIRECTORY | OFlags::PATH, Mode::empty())?;
    // The path of an open descriptor cannot be swapped for a link.
    let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
    let allowed = fs::set_permissions(path, Permissions::from_mode(0o700));
    allowed.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

fn is_itself(name: &[u8]) -> bool {
    matches!(name, b"." | b"..")
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, thread};

    use rustix::fs::mkdirat;

    use super::*;

    /// Creates nested directories, too many for one path.
    fn nest(root: &Path, levels: usize, mode: u32) {
        let mut at = openat(CWD, root, DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
        for level in 0..levels {
            mkdirat(&at, "d", Mode::RWXU).unwrap();
            let inner = openat(&at, "d", DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
            if level % 100 == 0 {
                drop(openat(&inner, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap());
            }
            let outer = std::mem::replace(&mut at, inner);
            fchmod(&outer, Mode::from_raw_mode(mode)).unwrap();
        }
        fchmod(&at, Mode::from_raw_mode(mode)).unwrap();
    }

    fn on_a_small_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        thread::Builder::new().stack_size(64 << 10).spawn(work).unwrap().join().unwrap()
    }

    #[test]
    fn deep_trees_are_removed_with_a_small_stack() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir(&root).unwrap();
        nest(&root, 6_000, 0o700);
        on_a_small_stack(move || {
            assert_eq!(occupied(&root), None);
            remove_tree(&root).unwrap();
            assert!(!root.exists());
            remove_tree(&root).unwrap();
        });
    }

    #[test]
    fn directories_without_permissions_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir(&root).unwrap();
        nest(&root, 100, 0);
        on_a_small_stack(move || remove_tree(&root).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn conflicting_names_and_links_are_removed_safely() {
        let directory = tempfile::tempdir().unwrap();
        let (root, other) = (directory.path().join("root"), directory.path().join("other"));
        fs::create_dir_all(other.join("kept")).unwrap();
        for path in ["moved-0", "moved-1/full", "a/b/c", "a/moved-3/x", "e/f"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        fs::write(root.join("moved-2"), "").unwrap();
        for link in ["link", "a/link", "a/b/link"] {
            symlink(&other, root.join(link)).unwrap();
        }
        assert!(occupied(&root).is_some());
        remove_tree(&root).unwrap();
        symlink(&other, &root).unwrap();
        assert_eq!(occupied(&root), Some(0));
        remove_tree(&root).unwrap();
        assert!(!root.exists() && other.join("kept").exists());
    }

    #[test]
    fn measurements_are_bounded() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("a/b")).unwrap();
        let within = |bounds| measure(directory.path(), bounds).is_some();
        assert!(within(Bounds { entries: 2, depth: 3, ..BOUNDS }));
        assert!(!within(Bounds { entries: 1, ..BOUNDS }));
        assert!(!within(Bounds { depth: 2, ..BOUNDS }));
        assert!(!within(Bounds { time: Duration::ZERO, ..BOUNDS }));
    }

    #[test]
    fn hard_links_are_counted_once() {
        let directory = tempfile::tempdir().unwrap();
        let base = occupied(directory.path()).unwrap();
        let file = directory.path().join("a");
        fs::write(&file, vec![1; 1 << 20]).unwrap();
        fs::hard_link(&file, directory.path().join("b")).unwrap();
        let used = occupied(directory.path()).unwrap() - base;
        assert!((1 << 20..2 << 20).contains(&used), "{used}");
    }
}
