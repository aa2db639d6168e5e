//! Monitors of the host: the usage of the volume, the data directory, and kills by the kernel.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use trove_core::{
    error::Error,
    model::{ByteSize, Disk},
};

use super::{host_paths::HostPaths, safe_fs::occupied};

/// The maximum age of a measured usage.
const USED_MAX_AGE: Duration = Duration::from_secs(30);

/// How long an observation waits for the file system.
const READ_LIMIT: Duration = Duration::from_secs(2);

/// The last measurement of the file system.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Storage {
    /// The usage of the volume, if known.
    pub(crate) disk: Option<Disk>,
    /// Whether the data directory exists, if known.
    pub(crate) data: Option<bool>,
    /// Whether a stop was the last request, if known.
    pub(crate) stop_requested: Option<bool>,
}

/// Reads the file system, once at a time, so that a hanging one blocks only one thread.
#[derive(Debug)]
pub(crate) struct StorageMonitor {
    paths: HostPaths,
    volume: PathBuf,
    used: Arc<Mutex<UsedSpace>>,
    reading: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct UsedSpace {
    measured: Option<(Instant, Option<ByteSize>)>,
    measuring: bool,
}

impl StorageMonitor {
    pub(crate) fn new(paths: HostPaths, volume: PathBuf) -> Self {
        Self { paths, volume, used: Arc::default(), reading: Arc::default() }
    }

    /// Returns what can be read within the limit. Concurrent reads are queued.
    pub(crate) async fn read(&self) -> Storage {
        self.measure();
        let read = async {
            let reading = Arc::clone(&self.reading).lock_owned().await;
            let (paths, volume) = (self.paths.clone(), self.volume.clone());
            let read = tokio::task::spawn_blocking(move || {
                let _reading = reading;
                (free(&volume), paths.has_data().ok(), paths.stop_requested().ok())
            });
            read.await
        };
        let Ok(Ok((free, data, stop_requested))) = timeout(READ_LIMIT, read).await else { return Storage::default() };
        let used = self.used.lock().measured.and_then(|(_, used)| used);
        Storage { disk: free.map(|free| Disk { used, free }), data, stop_requested }
    }

    /// Starts measuring the usage, unless that was done recently or is in progress.
    fn measure(&self) {
        let mut used = self.used.lock();
        if used.measuring || used.measured.is_some_and(|(at, _)| at.elapsed() < USED_MAX_AGE) {
            return;
        }
        used.measuring = true;
        let (volume, used) = (self.volume.clone(), Arc::clone(&self.used));
        tokio::task::spawn_blocking(move || {
            let bytes = occupied(&volume);
            let mut used = used.lock();
            used.measuring = false;
            used.measured = Some((Instant::now(), bytes.map(ByteSize::bytes)));
        });
    }
}

/// Returns the free space of the file system that holds this directory.
pub(crate) fn free(path: &Path) -> Option<ByteSize> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some(ByteSize::bytes(found.f_bavail.saturating_mul(found.f_frsize)))
}

/// How long a kill is reported after it was seen, so that more than one observer sees it.
const KILL_SHOWN: Duration = Duration::from_secs(30);

/// Detects kills by the kernel inside a running container, which the daemon does not report.
#[derive(Debug, Default)]
pub(crate) struct OomKillMonitor(Mutex<OomKills>);

#[derive(Debug, Default)]
struct OomKills {
    pid: u32,
    count: u64,
    seen: Option<Instant>,
}

impl OomKillMonitor {
    /// Returns true if the kernel killed a process of the server within the last half minute. `pid`
    /// is the first process of a running server.
    pub(crate) fn recent(&self, pid: Option<u32>) -> bool {
        let count = pid.and_then(kill_count);
        let mut kills = self.0.lock();
        match (pid, count) {
            // Kills before this process was first seen do not count.
            (Some(pid), count) if kills.pid != pid => *kills = OomKills { pid, count: count.unwrap_or(0), seen: None },
            (_, Some(count)) if count > kills.count => (kills.count, kills.seen) = (count, Some(Instant::now())),
            _ => {}
        }
        kills.seen.is_some_and(|at| at.elapsed() < KILL_SHOWN)
    }
}

/// Returns the number of out-of-memory kills in the control group of this process.
fn kill_count(pid: u32) -> Option<u64> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let file = memory_file(&groups)?;
    parse_kill_count(&fs::read_to_string(file).ok()?)
}

/// Returns the file that counts kills, given the control groups of a process.
fn memory_file(groups: &str) -> Option<PathBuf> {
    let lines = || groups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let found = |base: &str, path: &str, file: &str| PathBuf::from(format!("{base}{path}/{file}"));
    lines()
        .find(|(controllers, _)| controllers.split(',').any(|it| it == "memory"))
        .map(|(_, path)| found("/sys/fs/cgroup/memory", path, "memory.oom_control"))
        .or_else(|| {
            let (_, path) = lines().find(|(controllers, _)| controllers.is_empty())?;
            Some(found("/sys/fs/cgroup", path, "memory.events"))
        })
}

fn parse_kill_count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Runs blocking work on the blocking thread pool.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> trove_core::error::Result<T> + Send + 'static,
) -> trove_core::error::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::internal("a task ended early").with_source(error))?
}

#[cfg(test)]
mod tests {
    use trove_core::{datastore::GuestHost, id::InstanceId};

    use super::*;

    fn gauge(directory: &Path) -> StorageMonitor {
        let host = GuestHost::new(InstanceId::new_v4(), directory.join("volume"), directory.join("guest"));
        let paths = HostPaths::new(&host, "data");
        fs::create_dir_all(paths.data()).unwrap();
        paths.record_stop(true).unwrap();
        StorageMonitor::new(paths, host.volume.clone())
    }

    #[tokio::test]
    async fn concurrent_reads_all_return_values() {
        let directory = tempfile::tempdir().unwrap();
        let gauge = gauge(directory.path());
        let readings = futures_util::future::join_all((0..8).map(|_| gauge.read())).await;
        for storage in readings {
            assert_eq!((storage.data, storage.stop_requested), (Some(true), Some(true)));
            assert!(storage.disk.is_some());
        }
    }

    #[tokio::test]
    async fn hanging_reads_leave_storage_unknown() {
        let directory = tempfile::tempdir().unwrap();
        let gauge = gauge(directory.path());
        let hanging = Arc::clone(&gauge.reading).lock_owned().await;
        let storage = gauge.read().await;
        assert_eq!((storage.data, storage.stop_requested, storage.disk), (None, None, None));
        drop(hanging);
    }

    #[test]
    fn oom_kill_counters_are_found_in_both_cgroup_versions() {
        let first = "9:name=systemd:/docker/f\n4:cpu,memory:/docker/f\n0::/\n";
        let second = "0::/system.slice/docker-f.scope\n";
        assert_eq!(memory_file(first).unwrap(), Path::new("/sys/fs/cgroup/memory/docker/f/memory.oom_control"));
        assert_eq!(memory_file(second).unwrap(), Path::new("/sys/fs/cgroup/system.slice/docker-f.scope/memory.events"));
        assert_eq!(memory_file(""), None);
        assert_eq!(parse_kill_count("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(parse_kill_count("low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\n"), Some(1));
        assert_eq!(parse_kill_count(""), None);
    }
}
