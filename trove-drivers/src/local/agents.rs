//! Guest agents that are processes of their own. Each has one supervisor here, which starts it again when it ends. An
//! agent outlives its supervisor, and the next one finds it by the lock it holds.

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

/// What an agent is started with, in its directory.
const CONFIGURATION: &str = "agent.json";
/// What an agent holds the lock of while it runs; its content is the process id.
const LOCK: &str = "agent.lock";

/// What an agent gets of this process's environment, which may hold secrets.
pub(super) const ENVIRONMENT: [&str; 6] = ["PATH", "HOME", "TZ", "RUST_LOG", "RUST_BACKTRACE", "DOCKER_HOST"];

/// The bounds of the delay before an agent that exited is restarted.
const MIN_RESTART_DELAY: Duration = Duration::from_millis(200);
const MAX_RESTART_DELAY: Duration = Duration::from_secs(30);
/// An agent that ran for this long is restarted after the shortest delay.
const STEADY: Duration = Duration::from_secs(60);

/// How long an agent may take to end when it is told to, before it is killed. Jobs that run are let know.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// How long a process that is killed may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// How many agents in a row are ended that have no supervisor here.
const MAX_OTHERS: usize = 4;

/// How often, and after which pauses, an agent is looked for that holds the lock and has not written down yet who it is.
const LOOKS: usize = 50;
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// How often an agent is looked at that is not a child of this process.
const WATCH_PAUSE: Duration = Duration::from_millis(500);

/// The agents of a platform.
#[derive(Debug)]
pub(super) struct Agents {
    program: PathBuf,
    environment: Arc<[(String, OsString)]>,
    supervisors: Mutex<HashMap<InstanceId, Supervisor>>,
    /// Held while a configuration is written.
    writing: Arc<Mutex<()>>,
    /// Ends the supervisors with the platform. The agents go on.
    leave: DropGuard,
}

#[derive(Clone, Debug)]
struct Supervisor {
    /// Ends the agent too.
    stop: CancellationToken,
    task: TaskTracker,
}

impl Agents {
    /// Those that are this program; [`Invalid`](trove_core::error::Kind::Invalid) where it cannot be run. Blocks.
    pub(super) fn new(program: &Path, environment: Vec<(String, OsString)>) -> Result<Self> {
        let refuse = |why: &str| Error::invalid(format!("the program of guest agents, {}, {why}", program.display()));
        let program = program.canonicalize().map_err(|error| refuse("is not there").because(error))?;
        let found = fs::metadata(&program).map_err(|error| refuse("cannot be looked at").because(error))?;
        if !found.is_file() || found.permissions().mode() & 0o111 == 0 {
            return Err(refuse("is no program"));
        }
        let (supervisors, writing) = Default::default();
        let leave = CancellationToken::new().drop_guard();
        Ok(Self { program, environment: environment.into(), supervisors, writing, leave })
    }

    /// Makes sure that the agent in this directory runs from now on, with this configuration when it is started next.
    pub(super) async fn ensure(&self, instance: InstanceId, directory: &Path, told: SecretString) -> Result<()> {
        let file = directory.join(CONFIGURATION);
        let writing = self.writing.clone();
        let write = move || {
            let _alone = writing.lock();
            replace(&file, told.expose_secret().as_bytes())
                .map_err(|error| failed("write the configuration of an agent", &file, error))
        };
        blocking(write).await?;
        let ending = self.supervisors().get(&instance).filter(|known| known.stop.is_cancelled()).cloned();
        if let Some(ending) = ending {
            ending.task.wait().await;
        }
        let mut supervisors = self.supervisors();
        // With its runtime a supervisor is gone too.
        if supervisors.get(&instance).is_some_and(|known| !known.stop.is_cancelled() && !known.task.is_empty()) {
            return Ok(());
        }
        let fresh = Supervisor { stop: CancellationToken::new(), task: TaskTracker::new() };
        let (program, environment) = (self.program.clone(), Arc::clone(&self.environment));
        let charge = Charge { instance, program, environment, directory: directory.to_owned() };
        let leave = self.leave.token().child_token();
        fresh.task.spawn(charge.keep(fresh.stop.clone(), leave));
        fresh.task.close();
        supervisors.insert(instance, fresh);
        Ok(())
    }

    /// Ends the supervisor of an instance, and its agent.
    pub(super) async fn end(&self, instance: InstanceId) {
        let known = self.supervisors().get(&instance).cloned();
        if let Some(known) = known {
            known.stop.cancel();
            // It stays known until it has ended, so that a call that is broken off is made again.
            known.task.wait().await;
            self.supervisors().remove(&instance);
        }
    }

    fn supervisors(&self) -> MutexGuard<'_, HashMap<InstanceId, Supervisor>> {
        self.supervisors.lock()
    }
}

/// Ends the agents in a directory that have no supervisor here.
pub(super) async fn end_others(directory: &Path) -> Result<()> {
    for _ in 0..MAX_OTHERS {
        match Agent::beside(directory).await? {
            Some(agent) => agent.end().await?,
            None => return Ok(()),
        }
    }
    Err(Error::unavailable("the agent of the instance is started again and again by somebody else"))
}

/// Keeps agents from beginning in a directory until what is returned is dropped; `None` where there is no such directory.
/// Fails where one is there. Blocks.
pub(super) fn keep_out(directory: &Path) -> io::Result<Option<File>> {
    let lock = match open_lock_file(&directory.join(LOCK)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    lock.try_lock()?;
    Ok(Some(lock))
}

/// What one supervisor looks after.
struct Charge {
    instance: InstanceId,
    program: PathBuf,
    environment: Arc<[(String, OsString)]>,
    directory: PathBuf,
}

impl Charge {
    /// Has an agent run until told to stop, which ends the agent, or to leave, which does not.
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
                Ok(how) => tracing::warn!(instance = %self.instance, how, "the guest agent ended"),
                Err(error) => {
                    tracing::error!(instance = %self.instance, error = error.report(), "the guest agent is not as it should be");
                }
            }
            if stop.is_cancelled() {
                return;
            }
            if began.elapsed() > STEADY {
                delays = restart.build();
            }
            tokio::select! {
                () = sleep(delays.next().unwrap_or(MAX_RESTART_DELAY)) => {}
                () = stop.cancelled() => return,
                () = leave.cancelled() => return,
            }
        }
    }

    /// Waits for the end of the agent that is there, or of a new one; where it is told to stop it ends that first.
    async fn until_ended(&self, stop: &CancellationToken) -> Result<String> {
        if let Some(agent) = Agent::beside(&self.directory).await? {
            return tokio::select! {
                ended = agent.ended(WATCH_PAUSE) => ended.map(|()| "it was started by a process before".to_owned()),
                // Whoever stops the supervisor ends every agent that holds the lock.
                () = stop.cancelled() => Ok(String::new()),
            };
        }
        let failed = |error: io::Error| {
            Error::unavailable(format!("the guest agent {} cannot be run", self.program.display())).because(error)
        };
        let mut child = Command::new(&self.program)
            .arg("--config")
            .arg(self.directory.join(CONFIGURATION))
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // So that a terminal's Ctrl-C for this process is not meant for the agent.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        // It is not waited for yet, so that this is its number.
        let agent = child.id().and_then(|id| Agent::numbered(id).transpose()).transpose().map_err(failed)?;
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

/// An agent that runs, whoever started it.
struct Agent(OwnedFd);

impl Agent {
    /// The one that holds the lock in this directory.
    async fn beside(directory: &Path) -> Result<Option<Self>> {
        let lock = directory.join(LOCK);
        blocking(move || holder(&lock).map_err(|error| failed("find the agent that holds", &lock, error))).await
    }

    /// The process of this number, where there is one: the handle stays its own when the number goes to another.
    fn numbered(id: u32) -> io::Result<Option<Self>> {
        match i32::try_from(id).ok().and_then(Pid::from_raw).map(|id| pidfd_open(id, PidfdFlags::empty())) {
            None | Some(Err(Errno::SRCH)) => Ok(None),
            Some(opened) => Ok(Some(Self(opened?))),
        }
    }

    /// Waits until it has ended, and looks this often.
    async fn ended(&self, every: Duration) -> Result<()> {
        loop {
            let looked = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&Timespec::default()));
            if looked.map_err(|error| Error::internal("the agent cannot be watched").because(error))? > 0 {
                return Ok(());
            }
            sleep(every).await;
        }
    }

    /// Has it end: first it is told to, then it is killed.
    async fn end(self) -> Result<()> {
        for (signal, limit) in [(Signal::TERM, STOP_LIMIT), (Signal::KILL, KILL_LIMIT)] {
            match pidfd_send_signal(&self.0, signal) {
                Err(Errno::SRCH) => return Ok(()),
                Err(error) => return Err(Error::unavailable("the agent cannot be ended").because(error)),
                Ok(()) => {}
            }
            if let Ok(ended) = timeout(limit, self.ended(LOOK_PAUSE)).await {
                return ended;
            }
        }
        Err(Error::unavailable("the agent was killed and is not gone yet"))
    }
}

/// The process that holds the lock of this file. Blocks.
fn holder(lock: &Path) -> io::Result<Option<Agent>> {
    for _ in 0..LOOKS {
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
            && let Some(agent) = Agent::numbered(id)?
            && has_open(id, &file)?
        {
            let own = id == process::id();
            return if own { Err(io::Error::other("it is this process")) } else { Ok(Some(agent)) };
        }
        // It has only just begun, or only just ended.
        thread::sleep(LOOK_PAUSE);
    }
    Err(io::Error::other("it is none of the processes that can be seen"))
}

/// True where a process of this number has this file open: what is written in a file may be about another process.
fn has_open(id: u32, file: &File) -> io::Result<bool> {
    let wanted = file.metadata()?;
    let open = match fs::read_dir(format!("/proc/{id}/fd")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        open => open?,
    };
    let is_it = |found: fs::Metadata| found.dev() == wanted.dev() && found.ino() == wanted.ino();
    Ok(open.flatten().any(|entry| fs::metadata(entry.path()).is_ok_and(is_it)))
}
