//! The temporary directory of a test run, and what tests left in the Docker engine and on the
//! machine.
//!
//! Tests create everything below the directory that the run sets as `TMPDIR`. Containers and
//! networks of the library carry the directory of their instance in the label `io.trove.directory`,
//! those of tests a directory of the test, and a packet filter that of its platform in the comment. So what belongs to this run is recognized by a path
//! below its directory, and other runs and services are never touched.
//!
//! A run holds a lock in its directory. A directory whose lock is free belongs to a run that was
//! killed; the next run of the same user removes it with all that it left.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use crate::command::{Command, process_tree};
use crate::docker::docker;
use crate::error::{Error, Result, all_ok};
use crate::machine;

/// The start of the names of the directories.
const PREFIX: &str = "trove-test-";
/// The file that a run keeps locked.
const LOCK: &str = "run.lock";
/// The label with the directory that a container, network or image belongs to.
const LABEL: &str = "io.trove.directory";

/// Containers with `--rm` are removed a moment after their program ended.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The temporary directory of a test run; removed when dropped.
#[derive(Debug)]
pub(crate) struct TestDirectory {
    path: PathBuf,
    _lock: File,
}

/// The leftovers of tests: containers, networks and images by id with their names, tables of the
/// packet filter, and processes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Leftovers {
    containers: BTreeMap<String, String>,
    networks: BTreeMap<String, String>,
    images: BTreeMap<String, String>,
    tables: Vec<String>,
    processes: Vec<String>,
}

impl TestDirectory {
    /// Creates a directory. Its path is short, because that of a Unix socket is limited to 108
    /// bytes.
    pub(crate) fn create() -> Result<Self> {
        let parent = env::temp_dir();
        for number in 0_u32.. {
            let path = parent.join(format!("{PREFIX}{}{}", process::id(), suffix(number)));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    let path = path.canonicalize()?;
                    // Under its name only once it is locked, so that no other run takes it for abandoned.
                    let draft = path.join("draft");
                    let lock = File::create_new(&draft)?;
                    lock.lock()?;
                    fs::rename(draft, path.join(LOCK))?;
                    return Ok(Self { path, _lock: lock });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::new(format!("could not create {}: {error}", path.display()))),
            }
        }
        Err(Error::new(format!("could not create a directory in {}", parent.display())))
    }

    /// Removes the directories of this user's runs that were killed, with what their tests left.
    pub(crate) fn remove_abandoned() -> Result<()> {
        for entry in fs::read_dir(env::temp_dir())?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(PREFIX)
                && let Some(abandoned) = Self::abandoned(&entry.path())
            {
                eprintln!("removing what a killed run left in {}", abandoned.path.display());
                let removed = abandoned.leftovers().and_then(|leftovers| leftovers.remove());
                if removed.is_err() {
                    // Without the directory, the next run would not find the leftovers.
                    mem::forget(abandoned);
                    return removed;
                }
            }
        }
        Ok(())
    }

    /// Returns a directory if it belongs to a run of this user that was killed.
    fn abandoned(path: &Path) -> Option<Self> {
        let is_own = fs::symlink_metadata(path).ok()?.uid() == fs::metadata("/proc/self").ok()?.uid();
        let lock = File::open(path.join(LOCK)).ok().filter(|_| is_own)?;
        lock.try_lock().ok()?;
        Some(Self { path: path.canonicalize().ok()?, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what tests left behind, then the directory. Fails if there was anything. If it cannot
    /// be removed, the directory stays, so that the next run finds it.
    pub(crate) fn sweep(self) -> Result<()> {
        let started = Instant::now();
        let mut leftovers = self.leftovers()?;
        while !leftovers.is_empty() && started.elapsed() < SETTLE_TIMEOUT {
            thread::sleep(Duration::from_millis(500));
            leftovers = self.leftovers()?;
        }
        if leftovers.is_empty() {
            return Ok(());
        }
        let outcome = match leftovers.remove() {
            Ok(()) => "now removed".to_owned(),
            Err(error) => {
                mem::forget(self);
                format!("not everything could be removed: {error}")
            }
        };
        Err(Error::new(format!("tests left {leftovers} behind; {outcome}")))
    }

    fn leftovers(&self) -> Result<Leftovers> {
        let label = format!("{{{{.Label \"{LABEL}\"}}}}");
        let format = format!("{{{{.ID}}}}\t{{{{.Names}}}}\t{label},{{{{.Mounts}}}}");
        let containers = docker(["ps", "--all", "--no-trunc", "--format", &format]).output()?;
        let format = format!("{{{{.ID}}}}\t{{{{.Name}}}}\t{label}");
        let networks = docker(["network", "ls", "--no-trunc", "--format", &format]).output()?;
        let processes = process_tree::all_pids().into_iter().filter(|pid| self.is_mentioned_by(pid)).collect();
        Ok(Leftovers {
            containers: self.below(&containers),
            networks: self.below(&networks),
            images: self.below(&labelled_images()?),
            tables: self.tables(&packet_filter_tables()?),
            processes,
        })
    }

    /// Returns the ids and names of the rows with a path below this directory. A row has an id, a
    /// name and a list of paths.
    fn below(&self, listing: &str) -> BTreeMap<String, String> {
        let rows = listing.lines().filter_map(|line| {
            let mut columns = line.split('\t');
            Some((columns.next()?, columns.next()?, columns.next()?))
        });
        let ours = rows.filter(|(_, _, paths)| paths.split(',').any(|path| Path::new(path).starts_with(&self.path)));
        ours.map(|(id, name, _)| (id.to_owned(), name.to_owned())).collect()
    }

    /// Returns the names of the tables in a listing whose comments are paths below this directory.
    fn tables(&self, listing: &str) -> Vec<String> {
        let (mut table, mut ours) = ("", Vec::new());
        for line in listing.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("table inet ") {
                table = name.trim_end_matches(" {");
            } else if let Some(comment) = line.strip_prefix("comment ")
                && Path::new(comment.trim_matches('"')).starts_with(&self.path)
            {
                ours.push(table.to_owned());
            }
        }
        ours
    }

    /// Returns true if a process belongs to this directory: its command line has a path below it, as
    /// that of a guest agent, or the run started it.
    fn is_mentioned_by(&self, pid: &str) -> bool {
        let words = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let (command_line, environment) = (words("cmdline"), words("environ"));
        let is_below = |word: &[u8]| Path::new(OsStr::from_bytes(word)).starts_with(&self.path);
        let is_zero = |byte: &u8| *byte == 0;
        command_line.split(is_zero).any(is_below)
            || environment.split(is_zero).any(|word| word.strip_prefix(b"TMPDIR=").is_some_and(is_below))
    }

    /// Unmounts the file systems below this directory, the last mounted first.
    fn unmount_all(&self) {
        let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else { return };
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        let ours: Vec<_> = points.filter(|point| Path::new(point).starts_with(&self.path)).collect();
        for point in ours.into_iter().rev() {
            if let Err(error) = Command::new("umount").args(["--lazy", point]).output() {
                eprintln!("could not unmount {point}: {error}");
            }
        }
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        self.unmount_all();
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("could not remove {}: {error}", self.path.display());
        }
    }
}

impl Leftovers {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Removes everything, continuing after errors.
    fn remove(&self) -> Result<()> {
        process_tree::terminate(self.processes.clone(), || {});
        let containers = self.containers.keys().map(|id| docker(["rm", "--force", "--volumes", id]));
        let networks = self.networks.keys().map(|id| docker(["network", "rm", id]));
        let images = self.images.keys().map(|id| docker(["rmi", "--force", id]));
        let tables = self.tables.iter().map(|name| Command::new("nft").args(["delete", "table", "inet", name]));
        all_ok(containers.chain(networks).chain(images).chain(tables).filter_map(|command| command.output().err()))
    }
}

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |things: &BTreeMap<String, String>| things.values().cloned().collect();
        let kinds: [(Vec<String>, _); 5] = [
            (names(&self.containers), "container"),
            (names(&self.networks), "network"),
            (names(&self.images), "image"),
            (self.tables.clone(), "packet filter"),
            (self.processes.clone(), "process"),
        ];
        let listed = kinds.iter().filter(|(names, _)| !names.is_empty());
        let listed: Vec<_> = listed.map(|(names, kind)| format!("{kind} {}", names.join(", "))).collect();
        f.write_str(&listed.join(" and "))
    }
}

/// Returns the tables of the packet filter; none if this process cannot create any.
fn packet_filter_tables() -> Result<String> {
    if machine::is_root() && machine::has_program("nft") {
        Command::new("nft").args(["list", "ruleset", "inet"]).output()
    } else {
        Ok(String::new())
    }
}

/// Returns a row for each image that carries the label.
fn labelled_images() -> Result<String> {
    let ids = docker(["image", "ls", "--quiet", "--no-trunc", "--filter", &format!("label={LABEL}")]).output()?;
    let format = format!("{{{{.Id}}}}\t{{{{.RepoTags}}}}\t{{{{index .Config.Labels \"{LABEL}\"}}}}");
    let row = |id| docker(["image", "inspect", "--format", &format, id]).output();
    // An image of another run may be gone by now.
    Ok(ids.split_whitespace().filter_map(|id| row(id).ok()).collect())
}

fn suffix(number: u32) -> String {
    if number == 0 { String::new() } else { format!("-{number}") }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::mem::ManuallyDrop;
    use std::path::PathBuf;

    use super::{Leftovers, TestDirectory};

    /// Creates a file in a directory, because another test may reuse the name of the directory.
    fn mark(directory: &TestDirectory) -> PathBuf {
        let file = directory.path().join("mark");
        fs::write(&file, "").unwrap();
        file
    }

    #[test]
    fn leftovers_are_recognized_by_paths_below_the_directory() {
        let run = TestDirectory::create().unwrap();
        let path = run.path().display();
        let listing = format!(
            "1\tby-label\t{path}/.tmpA/root/guests/x,\n2\tby-mount\t,/etc,{path}/.tmpB\n\
             3\tservice\t/var/lib/trove/guests/y,/var/lib/trove\n4\tother-run\t{path}7/.tmpC,\n5\tplain\t,\n"
        );
        let leftovers = Leftovers { containers: run.below(&listing), ..Leftovers::default() };
        assert_eq!(leftovers.to_string(), "container by-label, by-mount");
    }

    #[test]
    fn packet_filters_are_recognized_by_their_comments() {
        let run = TestDirectory::create().unwrap();
        let listing = format!(
            "table inet other {{\n\tchain input {{\n\t}}\n}}\n\
             table inet service {{\n\tcomment \"/var/lib/databases\"\n}}\n\
             table inet ours {{\n\tcomment \"{}/.tmpA/root\"\n\tchain input {{\n\t}}\n}}\n",
            run.path().display()
        );
        assert_eq!(run.tables(&listing), ["ours"]);
    }

    #[test]
    fn directories_are_distinct_and_removed() {
        let (one, other) = (TestDirectory::create().unwrap(), TestDirectory::create().unwrap());
        assert_ne!(one.path(), other.path());
        let file = mark(&one);
        drop(one);
        assert!(!file.exists() && other.path().exists());
    }

    #[test]
    fn only_directories_without_a_running_owner_are_abandoned() {
        let run = TestDirectory::create().unwrap();
        let (path, file) = (run.path().to_owned(), mark(&run));
        assert!(TestDirectory::abandoned(&path).is_none());
        // As after `kill -9`: the lock is released, the directory stays.
        let TestDirectory { _lock: lock, .. } = &*ManuallyDrop::new(run);
        lock.unlock().unwrap();
        let abandoned = TestDirectory::abandoned(&path).unwrap();
        assert!(TestDirectory::abandoned(&path).is_none(), "two runs clean up the same directory");
        drop(abandoned);
        assert!(!file.exists());
    }
}
