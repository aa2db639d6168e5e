//! Trees of files that a server may have made to do harm: deleted, measured and copied without following links, and with a
//! bound on open files, stack and memory whatever their shape. Everything here blocks.

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

/// How far a measurement goes.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    entries: usize,
    depth: usize,
    time: Duration,
}

/// Far above what the data of an engine is like.
const BOUNDS: Bounds = Bounds { entries: 1_000_000, depth: 64, time: Duration::from_secs(5) };

/// Removes a file or a directory with all it holds, without following links. One that is absent is `Ok`.
///
/// A directory's directories are first moved up into the top one, so that none has to be kept open or remembered on
/// the way down. What their owner may not do with them is allowed first.
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

/// What the files below a directory take up. Files that vanish meanwhile are not counted. `None` where a part cannot
/// be read, or the tree is beyond all reason.
pub(crate) fn occupied(root: &Path) -> Option<u64> {
    measure(root, BOUNDS)
}

/// A directory that is being emptied.
struct Emptying {
    top: OwnedFd,
    /// How many directories were moved up, which is what the next one is called.
    moved: u64,
}

impl Emptying {
    /// Goes through the top directory until it is found empty: moved directories appear while it is read.
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

    /// Removes a directory of the top one and moves the directories in it up. True where that changed anything.
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
                // A directory that moves has to be writable, because it names its parent.
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
                // It is gone, or is something else by now.
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

/// Opens a directory, which the agent may then list and change.
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

/// Gives the owner of a directory all rights to it, also where it cannot be opened.
fn allow(at: impl AsFd, name: impl Arg) -> rustix::io::Result<()> {
    let directory = openat(at, name, DIRECTORY | OFlags::PATH, Mode::empty())?;
    // The path of what is open cannot be swapped for a link, as its name could.
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

    /// Directories in each other, too many for one path.
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
    fn a_deep_tree_is_deleted() {
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
    fn directories_that_forbid_everything_are_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir(&root).unwrap();
        nest(&root, 100, 0);
        on_a_small_stack(move || remove_tree(&root).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn names_in_the_way_and_links_do_no_harm() {
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
    fn a_measurement_has_bounds() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("a/b")).unwrap();
        let within = |bounds| measure(directory.path(), bounds).is_some();
        assert!(within(Bounds { entries: 2, depth: 3, ..BOUNDS }));
        assert!(!within(Bounds { entries: 1, ..BOUNDS }));
        assert!(!within(Bounds { depth: 2, ..BOUNDS }));
        assert!(!within(Bounds { time: Duration::ZERO, ..BOUNDS }));
    }

    #[test]
    fn files_with_several_names_are_counted_once() {
        let directory = tempfile::tempdir().unwrap();
        let base = occupied(directory.path()).unwrap();
        let file = directory.path().join("a");
        fs::write(&file, vec![1; 1 << 20]).unwrap();
        fs::hard_link(&file, directory.path().join("b")).unwrap();
        let used = occupied(directory.path()).unwrap() - base;
        assert!((1 << 20..2 << 20).contains(&used), "{used}");
    }
}
