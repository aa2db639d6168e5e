//! Guest agents in processes of their own. Each has a supervisor, which restarts it when it exits.
//! An agent outlives its supervisor, and the next one finds it by the lock that it holds.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs::{self, File, TryLockError},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    process::{self, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use backon::{BackoffBuilder, ExponentialBuilder};
use parking_lot::{Mutex, MutexGuard};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::{
    process::Command,
    time::{sleep, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use trove_core::{
    error::{Error, Result},
    fs::replace,
    id::InstanceId,
    secret::{ExposeSecret, SecretString},
};

use crate::container::{blocking, failed, open_lock_file};

/// The configuration file of an agent, in its directory.
const CONFIGURATION: &str = "agent.json";
/// The file that a running agent holds locked. It contains the process id.
const LOCK: &str = "agent.lock";

/// The environment variables that an agent may receive. Others may hold secrets.
pub(super) const ENVIRONMENT: [&str; 6] = ["PATH", "HOME", "TZ", "RUST_LOG", "RUST_BACKTRACE", "DOCKER_HOST"];

/// The bounds of the delay before an agent that exited is restarted.
const MIN_RESTART_DELAY: Duration = Duration::from_millis(200);
const MAX_RESTART_DELAY: Duration = Duration::from_secs(30);
/// An agent that ran for this long is restarted after the shortest delay.
const STABLE_AFTER: Duration = Duration::from_secs(60);

/// How long an agent may take to exit on request before it is killed. Running jobs are notified.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// How long a killed process may take to exit.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// How many unsupervised agents in a row are stopped.
const MAX_UNSUPERVISED: usize = 4;

/// How often, and at which interval, to look for an agent that holds the lock and has not written
/// its process id yet.
const LOCK_CHECKS: usize = 50;
const LOCK_CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// How often an agent is checked that is not a child of this process.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// The agents of a platform.
#[derive(Debug)]
pub(super) struct AgentSupervisors {
    program: PathBuf,
    environment: Arc<[(String, OsString)]>,
    supervisors: Mutex<HashMap<InstanceId, Supervisor>>,
    /// Held while a configuration is written.
    writing: Arc<Mutex<()>>,
    /// Ends the supervisors with the platform. The agents keep running.
    leave: DropGuard,
}

#[derive(Clone, Debug)]
struct Supervisor {
    /// Stops the agent as well.
    stop: CancellationToken,
    task: TaskTracker,
}

impl AgentSupervisors {
    /// Creates the supervisor of agents that run this program. Blocks.
    ///
    /// # Errors
    ///
    /// [`Invalid`](trove_core::error::Kind::Invalid) if it cannot be executed.
    pub(super) fn new(program: &Path, environment: Vec<(String, OsString)>) -> Result<Self> {
        let refuse = |why: &str| Error::invalid(format!("the agent program {} {why}", program.display()));
        let program = program.canonicalize().map_err(|error| refuse("does not exist").with_source(error))?;
        let found = fs::metadata(&program).map_err(|error| refuse("cannot be inspected").with_source(error))?;
        if !found.is_file() || found.permissions().mode() & 0o111 == 0 {
            return Err(refuse("is not executable"));
        }
        let (supervisors, writing) = Default::default();
        let leave = CancellationToken::new().drop_guard();
        Ok(Self { program, environment: environment.into(), supervisors, writing, leave })
    }

    /// Ensures that the agent in this directory is running, and starts it with this configuration
    /// the next time.
    pub(super) async fn ensure(
        &self,
        instance: InstanceId,
        directory: &Path,
        configuration: SecretString,
    ) -> Result<()> {
        let file = directory.join(CONFIGURATION);
        let writing = self.writing.clone();
        let write = move || {
            let _alone = writing.lock();
            replace(&file, configuration.expose_secret().as_bytes())
                .map_err(|error| failed("write the configuration of an agent", &file, error))
        };
        blocking(write).await?;
        let ending = self.supervisors().get(&instance).filter(|known| known.stop.is_cancelled()).cloned();
        if let Some(ending) = ending {
            ending.task.wait().await;
        }
        let mut supervisors = self.supervisors();
        // A supervisor ends with its runtime.
        if supervisors.get(&instance).is_some_and(|known| !known.stop.is_cancelled() && !known.task.is_empty()) {
            return Ok(());
        }
        let fresh = Supervisor { stop: CancellationToken::new(), task: TaskTracker::new() };
        let (program, environment) = (self.program.clone(), Arc::clone(&self.environment));
        let supervised = SupervisedAgent { instance, program, environment, directory: directory.to_owned() };
        let leave = self.leave.token().child_token();
        fresh.task.spawn(supervised.keep(fresh.stop.clone(), leave));
        fresh.task.close();
        supervisors.insert(instance, fresh);
        Ok(())
    }

    /// Ends the supervisor of an instance and stops its agent.
    pub(super) async fn end(&self, instance: InstanceId) {
        let known = self.supervisors().get(&instance).cloned();
        if let Some(known) = known {
            known.stop.cancel();
            // The supervisor stays registered until it has ended, so that an interrupted call is
            // repeated.
            known.task.wait().await;
            self.supervisors().remove(&instance);
        }
    }

    fn supervisors(&self) -> MutexGuard<'_, HashMap<InstanceId, Supervisor>> {
        self.supervisors.lock()
    }
}

/// Stops unsupervised agents in a directory.
pub(super) async fn stop_unsupervised(directory: &Path) -> Result<()> {
    for _ in 0..MAX_UNSUPERVISED {
        match AgentProcess::holding_lock(directory).await? {
            Some(agent) => agent.end().await?,
            None => return Ok(()),
        }
    }
    Err(Error::unavailable("another process keeps starting the agent of the instance"))
}

/// Prevents agents from starting in a directory until the returned file is dropped; `None` if there
/// is no such directory. Fails if an agent is running. Blocks.
pub(super) fn prevent_start(directory: &Path) -> io::Result<Option<File>> {
    let lock = match open_lock_file(&directory.join(LOCK)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    lock.try_lock()?;
    Ok(Some(lock))
}

/// The agent that one supervisor is responsible for.
struct SupervisedAgent {
    instance: InstanceId,
    program: PathBuf,
    environment: Arc<[(String, OsString)]>,
    directory: PathBuf,
}

impl SupervisedAgent {
    /// Keeps an agent running until `stop`, which stops the agent too, or `leave`, which does not.
    async fn keep(self, stop: CancellationToken, leave: CancellationToken) {
        let restart = ExponentialBuilder::new()
            .with_min_delay(MIN_RESTART_DELAY)
            .with_max_delay(MAX_RESTART_DELAY)
            .with_jitter()
            .without_max_times();
        let mut delays = restart.build();
        loop {
            let began = Instant::now();
            let ended = tokio::select! {
                ended = self.until_ended(&stop) => ended,
                () = leave.cancelled() => return,
            };
            match ended {
                Ok(_) if stop.is_cancelled() => return,
                Ok(how) => tracing::warn!(instance = %self.instance, how, "the guest agent exited"),
                Err(error) => {
                    tracing::error!(instance = %self.instance, error = error.report(), "failed to supervise the guest agent");
                }
            }
            if stop.is_cancelled() {
                return;
            }
            if began.elapsed() > STABLE_AFTER {
                delays = restart.build();
            }
            tokio::select! {
                () = sleep(delays.next().unwrap_or(MAX_RESTART_DELAY)) => {}
                () = stop.cancelled() => return,
                () = leave.cancelled() => return,
            }
        }
    }

    /// Waits until the running agent, or a new one, exits. On `stop` it stops the agent first.
    async fn until_ended(&self, stop: &CancellationToken) -> Result<String> {
        if let Some(agent) = AgentProcess::holding_lock(&self.directory).await? {
            return tokio::select! {
                ended = agent.ended(WATCH_INTERVAL) => ended.map(|()| "it was started by a process before".to_owned()),
                // Stopping the supervisor stops every agent that holds the lock.
                () = stop.cancelled() => Ok(String::new()),
            };
        }
        let failed = |error: io::Error| {
            Error::unavailable(format!("could not run the guest agent {}", self.program.display())).with_source(error)
        };
        let mut child = Command::new(&self.program)
            .arg("--config")
            .arg(self.directory.join(CONFIGURATION))
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // A Ctrl-C in this process's terminal must not reach the agent.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        // The child has not been waited for, so its process id cannot have been reused.
        let agent = child.id().and_then(|id| AgentProcess::from_pid(id).transpose()).transpose().map_err(failed)?;
        tokio::select! {
            status = child.wait() => return status.map(|status| status.to_string()).map_err(failed),
            () = stop.cancelled() => {}
        }
        if let Some(agent) = agent {
            agent.end().await?;
        }
        child.wait().await.map(|status| status.to_string()).map_err(failed)
    }
}

/// A running agent, whichever process started it.
struct AgentProcess(OwnedFd);

impl AgentProcess {
    /// Returns the agent that holds the lock in this directory.
    async fn holding_lock(directory: &Path) -> Result<Option<Self>> {
        let lock = directory.join(LOCK);
        blocking(move || holder(&lock).map_err(|error| failed("find the agent that holds the lock", &lock, error)))
            .await
    }

    /// Returns the process of this id, if there is one. The handle stays valid when the id is
    /// reused.
    fn from_pid(id: u32) -> io::Result<Option<Self>> {
        match i32::try_from(id).ok().and_then(Pid::from_raw).map(|id| pidfd_open(id, PidfdFlags::empty())) {
            None | Some(Err(Errno::SRCH)) => Ok(None),
            Some(opened) => Ok(Some(Self(opened?))),
        }
    }

    /// Waits until the process has exited, checking at this interval.
    async fn ended(&self, every: Duration) -> Result<()> {
        loop {
            let looked = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&Timespec::default()));
            if looked.map_err(|error| Error::internal("could not poll the agent process").with_source(error))? > 0 {
                return Ok(());
            }
            sleep(every).await;
        }
    }

    /// Stops the process: by SIGTERM, then by SIGKILL.
    async fn end(self) -> Result<()> {
        for (signal, limit) in [(Signal::TERM, STOP_LIMIT), (Signal::KILL, KILL_LIMIT)] {
            match pidfd_send_signal(&self.0, signal) {
                Err(Errno::SRCH) => return Ok(()),
                Err(error) => return Err(Error::unavailable("could not signal the agent process").with_source(error)),
                Ok(()) => {}
            }
            if let Ok(ended) = timeout(limit, self.ended(LOCK_CHECK_INTERVAL)).await {
                return ended;
            }
        }
        Err(Error::unavailable("the agent process did not exit after SIGKILL"))
    }
}

/// Returns the process that holds the lock of this file. Blocks.
fn holder(lock: &Path) -> io::Result<Option<AgentProcess>> {
    for _ in 0..LOCK_CHECKS {
        let file = match File::open(lock) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        match file.try_lock_shared() {
            Ok(()) => return Ok(None),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if let Ok(id) = fs::read_to_string(lock)?.parse::<u32>()
            && let Some(agent) = AgentProcess::from_pid(id)?
            && has_open(id, &file)?
        {
            let own = id == process::id();
            return if own { Err(io::Error::other("the lock is held by this process")) } else { Ok(Some(agent)) };
        }
        // The agent has only just started or exited.
        thread::sleep(LOCK_CHECK_INTERVAL);
    }
    Err(io::Error::other("the lock is held by no visible process"))
}

/// Returns true if the process has this file open: the process id in the file may be stale.
fn has_open(id: u32, file: &File) -> io::Result<bool> {
    let wanted = file.metadata()?;
    let open = match fs::read_dir(format!("/proc/{id}/fd")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        open => open?,
    };
    let is_it = |found: fs::Metadata| found.dev() == wanted.dev() && found.ino() == wanted.ino();
    Ok(open.flatten().any(|entry| fs::metadata(entry.path()).is_ok_and(is_it)))
}
