//! Copies directory trees without following links, within bounds. Nobody else may write to the
//! source or to the copy.

use std::{
    ffi::{CStr, CString},
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    thread,
};

use rustix::{
    fs::{
        CWD, Dir, FileType, Mode, OFlags, RawMode, fchmod, fchown, fstat, fsync, mkdirat, openat, readlinkat, symlinkat,
    },
    io::Errno,
    process::{Gid, Uid},
};
use sha2::{Digest, Sha256};

use super::{BOUNDS, DIRECTORY, is_itself};

const BLOCK: usize = 1 << 20;

/// How many files are synced together, and by how many threads: a file system syncs several in
/// little more time than one.
const BATCH: usize = 128;
const WRITERS: usize = 8;

/// How a copy is made.
pub(crate) struct CopyOptions<'a> {
    /// The owner of the copy. Only root may set another one.
    pub(crate) owner: Option<(u32, u32)>,
    /// Whether links are copied, as links. Otherwise links and special files are an error.
    pub(crate) links: bool,
    /// Selects files to leave out, by name.
    pub(crate) without: &'a dyn Fn(&str) -> bool,
    /// Whether the copy is synced to disk.
    pub(crate) durable: bool,
    /// Called regularly with the number of bytes copied; false ends the copy.
    pub(crate) progress: &'a dyn Fn(u64) -> bool,
}

/// Copies a directory and its content to a path that does not exist.
pub(crate) fn copy_tree(from: &Path, to: &Path, how: &CopyOptions<'_>) -> io::Result<()> {
    let mut copying = Copying { how, digest: None, bytes: 0, entries: 0, written: Vec::new() };
    copying.top(from, to)
}

/// Does the same, and returns a digest of names, modes and contents.
pub(crate) fn copy_tree_with_digest(from: &Path, to: &Path, how: &CopyOptions<'_>) -> io::Result<String> {
    let mut copying = Copying { how, digest: Some(Sha256::new()), bytes: 0, entries: 0, written: Vec::new() };
    copying.top(from, to)?;
    let digest = copying.digest.take().map(Sha256::finalize).unwrap_or_default();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

struct Copying<'a> {
    how: &'a CopyOptions<'a>,
    digest: Option<Sha256>,
    bytes: u64,
    entries: usize,
    /// Files that are not yet synced.
    written: Vec<OwnedFd>,
}

impl Copying<'_> {
    fn top(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let source = openat(CWD, from, DIRECTORY | OFlags::RDONLY, Mode::empty())?;
        mkdirat(CWD, to, Mode::RWXU)?;
        let target = openat(CWD, to, DIRECTORY | OFlags::RDONLY, Mode::empty())?;
        self.directory(source, target, 0)?;
        self.write_out()
    }

    /// Fills a new directory. The depth is bounded, and so is the stack.
    fn directory(&mut self, source: OwnedFd, target: OwnedFd, depth: usize) -> io::Result<()> {
        if depth == BOUNDS.depth {
            return Err(Errno::LOOP.into());
        }
        let mode = fstat(&source)?.st_mode;
        // Sorted, so that equal trees have equal digests.
        for name in self.names(&source)? {
            self.entry(source.as_fd(), &target, &name, depth)?;
        }
        self.finish(target, mode)
    }

    fn names(&mut self, source: &OwnedFd) -> io::Result<Vec<CString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(source)? {
            let entry = entry?;
            if !is_itself(entry.file_name().to_bytes()) {
                names.push(entry.file_name().to_owned());
            }
            self.entries += 1;
            if self.entries > BOUNDS.entries {
                return Err(Errno::FBIG.into());
            }
        }
        names.sort();
        Ok(names)
    }

    fn entry(&mut self, source: BorrowedFd<'_>, target: &OwnedFd, name: &CStr, depth: usize) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let found = match openat(source, name, flags, Mode::empty()) {
            Err(Errno::LOOP) => return self.link(source, target, name),
            // A socket, which is useless in a copy.
            Err(Errno::NXIO) if self.how.links => return Ok(()),
            found => found?,
        };
        let stat = fstat(&found)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                self.digest_part(b'd', name.to_bytes(), stat.st_mode);
                mkdirat(target, name, Mode::RWXU)?;
                let inner = openat(target, name, DIRECTORY | OFlags::RDONLY, Mode::empty())?;
                self.directory(found, inner, depth + 1)?;
                self.digest_part(b'e', b"", 0);
                Ok(())
            }
            FileType::RegularFile if (self.how.without)(&name.to_string_lossy()) => Ok(()),
            FileType::RegularFile => {
                self.digest_part(b'f', name.to_bytes(), stat.st_mode);
                self.file(found.into(), target, name, stat.st_mode)
            }
            _ if self.how.links => Ok(()),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn link(&mut self, source: BorrowedFd<'_>, target: &OwnedFd, name: &CStr) -> io::Result<()> {
        if !self.how.links {
            return Err(Errno::LOOP.into());
        }
        symlinkat(readlinkat(source, name, Vec::new())?, target, name)?;
        Ok(())
    }

    fn file(&mut self, mut source: File, target: &OwnedFd, name: &CStr, mode: RawMode) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(target, name, flags, Mode::RUSR | Mode::WUSR)?;
        let mut copy = File::from(file);
        if self.digest.is_some() {
            self.file_by_blocks(&mut source, &mut copy)?;
        } else {
            // In chunks, so that progress is reported in between; the kernel copies or shares them.
            while let copied @ 1.. = io::copy(&mut (&mut source).take(64 * BLOCK as u64), &mut copy)? {
                self.copied(copied)?;
            }
        }
        self.finish(copy.into(), mode)
    }

    fn file_by_blocks(&mut self, source: &mut File, copy: &mut File) -> io::Result<()> {
        let (mut block, mut length) = (vec![0; BLOCK], 0_u64);
        loop {
            let read = source.read(&mut block)?;
            if read == 0 {
                break;
            }
            copy.write_all(&block[..read])?;
            if let Some(digest) = &mut self.digest {
                digest.update(&block[..read]);
            }
            length += read as u64;
            self.copied(read as u64)?;
        }
        if let Some(digest) = &mut self.digest {
            digest.update(length.to_le_bytes());
        }
        Ok(())
    }

    fn copied(&mut self, bytes: u64) -> io::Result<()> {
        self.bytes += bytes;
        if (self.how.progress)(self.bytes) { Ok(()) } else { Err(Errno::CANCELED.into()) }
    }

    /// Sets the owner and the mode of a copy.
    fn finish(&mut self, copy: OwnedFd, mode: RawMode) -> io::Result<()> {
        let found = fstat(&copy)?;
        if let Some((uid, gid)) = self.how.owner.filter(|owner| *owner != (found.st_uid, found.st_gid)) {
            fchown(&copy, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        // Nothing in a data directory is set-uid.
        fchmod(&copy, Mode::from_raw_mode(mode & 0o777))?;
        if self.how.durable {
            self.written.push(copy);
        }
        if self.written.len() >= BATCH { self.write_out() } else { Ok(()) }
    }

    /// Syncs the files that were copied so far.
    fn write_out(&mut self) -> io::Result<()> {
        let written = std::mem::take(&mut self.written);
        let each = written.len().div_ceil(WRITERS).max(1);
        thread::scope(|scope| {
            let sync = |files: &[OwnedFd]| files.iter().try_for_each(fsync);
            let writers: Vec<_> = written.chunks(each).map(|files| scope.spawn(move || sync(files))).collect();
            let done = writers.into_iter().map(|writer| writer.join().unwrap_or(Err(Errno::IO)));
            done.collect::<Result<(), Errno>>().map_err(io::Error::from)
        })
    }

    fn digest_part(&mut self, kind: u8, name: &[u8], mode: RawMode) {
        if let Some(digest) = &mut self.digest {
            digest.update([kind]);
            digest.update((name.len() as u64).to_le_bytes());
            digest.update(name);
            digest.update((mode & 0o777).to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        fs,
        os::unix::{
            fs::{MetadataExt, PermissionsExt, symlink},
            net::UnixListener,
        },
    };

    use rustix::fs::mkfifoat;

    use super::*;

    fn rules(links: bool) -> CopyOptions<'static> {
        CopyOptions { owner: None, links, without: &|_| false, durable: true, progress: &|_| true }
    }

    #[test]
    fn copies_do_not_follow_links_or_block_on_special_files() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::write(from.join("a/b/file"), "text").unwrap();
        fs::write(from.join("suid"), "").unwrap();
        fs::set_permissions(from.join("suid"), fs::Permissions::from_mode(0o4751)).unwrap();
        symlink("/etc/passwd", from.join("a/link")).unwrap();
        mkfifoat(CWD, from.join("fifo"), Mode::RUSR).unwrap();
        let _listener = UnixListener::bind(from.join("socket")).unwrap();
        for file in 0..2 * BATCH {
            fs::write(from.join(format!("a/{file}")), "").unwrap();
        }
        copy_tree(&from, &to, &rules(true)).unwrap();
        assert_eq!(fs::read_to_string(to.join("a/b/file")).unwrap(), "text");
        assert_eq!(fs::read_link(to.join("a/link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(fs::metadata(to.join("suid")).unwrap().mode() & 0o7777, 0o751);
        assert!(!to.join("fifo").exists() && !to.join("socket").exists());
        assert_eq!(fs::read_dir(to.join("a")).unwrap().count(), 2 + 2 * BATCH);
        copy_tree(&from, &to, &rules(true)).unwrap_err();
        symlink(&from, directory.path().join("way")).unwrap();
        copy_tree(&directory.path().join("way"), &directory.path().join("new"), &rules(true)).unwrap_err();
    }

    #[test]
    fn copies_can_be_cancelled_and_are_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::write(from.join("a"), vec![1; 3 * BLOCK]).unwrap();
        fs::write(from.join("b"), vec![1; BLOCK]).unwrap();
        let asked = Cell::new(0);
        let progress = |bytes| {
            asked.set(bytes);
            bytes < 2 * BLOCK as u64
        };
        copy_tree_with_digest(&from, &to, &CopyOptions { progress: &progress, ..rules(false) }).unwrap_err();
        assert_eq!(asked.get(), 2 * BLOCK as u64);
        let deep = from.join("d/".repeat(BOUNDS.depth));
        fs::create_dir_all(deep).unwrap();
        copy_tree(&from, &directory.path().join("too-deep"), &rules(true)).unwrap_err();
    }
}
