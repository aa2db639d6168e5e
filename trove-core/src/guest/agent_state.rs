//! The state of an agent, and the part of it that is persisted.

use std::{collections::VecDeque, io, path::PathBuf, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{
    identity::GuestIdentities,
    protocol::{Job, JobStatus},
};
use crate::{
    error::{Error, Result},
    fs,
    id::OperationId,
    model::Flavor,
};

/// The maximum number of jobs that an agent keeps: those that run and those that ended last.
const MAX_JOBS: usize = 16;

/// The state of the server that the agent maintains by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Intent {
    /// Any: the instance is being created, changed or deleted.
    None,
    Run,
    Stop,
}

/// Holds the state of an agent and persists it if there is a file.
///
/// Effects that depend on a change of the state follow after the change was persisted.
pub(super) struct AgentStateStore {
    state: Arc<Mutex<AgentState>>,
    file: Option<PathBuf>,
    writing: tokio::sync::Mutex<()>,
}

pub(super) struct AgentState {
    pub(super) intent: Intent,
    pub(super) epoch: u64,
    pub(super) applied: AppliedChanges,
    pub(super) identities: GuestIdentities,
    jobs: VecDeque<JobRecord>,
}

/// Changes of the server by jobs, relative to the agent's configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AppliedChanges {
    pub(super) flavor: Option<Flavor>,
    /// The version and its image.
    pub(super) release: Option<(String, String)>,
}

struct JobRecord {
    key: JobKey,
    /// The `Debug` text of the job, which holds no secrets.
    arguments: String,
    cancel: CancellationToken,
    result: Option<Result<()>>,
    /// True once the result is persisted. It is not reported before.
    persisted: bool,
    /// True once the result was reported to a caller.
    reported: bool,
}

/// The operation that a job belongs to, and the name of the job.
pub(super) type JobKey = (OperationId, String);

#[derive(Serialize, Deserialize)]
struct PersistedState {
    intent: Intent,
    epoch: u64,
    applied: AppliedChanges,
    identities: GuestIdentities,
    /// Jobs that succeeded. A job that failed or was interrupted runs again when it is requested
    /// again.
    done: Vec<(JobKey, String)>,
}

impl AgentStateStore {
    /// Creates the state of an agent that persists nothing.
    pub(super) fn in_memory(should_run: Option<bool>, epoch: u64, identities: GuestIdentities) -> Self {
        let intent = match should_run {
            None => Intent::None,
            Some(true) => Intent::Run,
            Some(false) => Intent::Stop,
        };
        let state = AgentState { intent, epoch, applied: AppliedChanges::default(), identities, jobs: VecDeque::new() };
        Self { state: Arc::new(Mutex::new(state)), file: None, writing: tokio::sync::Mutex::default() }
    }

    /// Loads the state that an earlier process persisted in `file`, or creates it. Blocks on the
    /// file system.
    #[cfg(feature = "amqp")]
    pub(super) fn load(
        file: PathBuf,
        should_run: Option<bool>,
        epoch: u64,
        identities: GuestIdentities,
    ) -> Result<Self> {
        let mut store = Self::in_memory(should_run, epoch, identities);
        let failed = |error: io::Error| {
            Error::internal(format!("could not read the agent state in {}", file.display())).with_source(error)
        };
        match std::fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
            Ok(text) => {
                let persisted: PersistedState = serde_json::from_slice(&text).map_err(|error| failed(error.into()))?;
                let mut state = store.state();
                (state.intent, state.epoch) = (persisted.intent, persisted.epoch.max(epoch));
                state.applied = persisted.applied;
                let configured = std::mem::replace(&mut state.identities, persisted.identities);
                state.identities.add_newer(configured);
                state.jobs.extend(persisted.done.into_iter().map(|(key, arguments)| JobRecord {
                    result: Some(Ok(())),
                    persisted: true,
                    reported: true,
                    ..JobRecord::new(key, arguments, CancellationToken::new())
                }));
                drop(state);
            }
        }
        store.file = Some(file);
        Ok(store)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, AgentState> {
        self.state.lock()
    }

    /// Persists the current state.
    pub(super) async fn persist(&self) -> Result<()> {
        let Some(file) = self.file.clone() else { return Ok(()) };
        // Serialized, so that the last write holds the latest state.
        let _turn = self.writing.lock().await;
        let text = serde_json::to_vec(&self.state().to_persisted());
        let text = text.map_err(|error| Error::internal("could not serialize the agent state").with_source(error))?;
        let written = tokio::task::spawn_blocking(move || fs::replace(&file, &text)).await;
        let written = written.unwrap_or_else(|error| Err(io::Error::other(error)));
        written.map_err(|error| Error::unavailable("could not persist the agent state").with_source(error))
    }
}

impl AgentState {
    /// Rejects a caller whose epoch is lower than the highest seen.
    pub(super) fn fence(&mut self, epoch: u64) -> Result<()> {
        if epoch < self.epoch {
            return Err(Error::fenced("another control plane has taken the instance over"));
        }
        self.epoch = epoch;
        Ok(())
    }

    /// Returns the status of the job with this key, or `None` if it must run: it is new, or it
    /// failed and the failure was reported. [`Conflict`](crate::error::Kind::Conflict) if the
    /// arguments differ.
    pub(super) fn join(&mut self, key: &JobKey, arguments: &str) -> Result<Option<Result<JobStatus>>> {
        let Some(at) = self.jobs.iter().position(|job| job.key == *key) else { return Ok(None) };
        if self.jobs[at].arguments != arguments {
            return Err(Error::conflict("the operation requested the same job with other arguments before"));
        }
        if self.jobs[at].reported && matches!(self.jobs[at].result, Some(Err(_))) {
            self.jobs.remove(at);
            return Ok(None);
        }
        Ok(Some(self.jobs[at].report()))
    }

    /// Records a job that starts, and cancels all others: operations on an instance run in
    /// sequence, so the operation of a job that still runs has ended.
    pub(super) fn start(&mut self, key: JobKey, arguments: String, cancel: CancellationToken) {
        self.jobs.iter().for_each(|job| job.cancel.cancel());
        while self.jobs.len() >= MAX_JOBS {
            self.jobs.pop_front();
        }
        self.jobs.push_back(JobRecord::new(key, arguments, cancel));
    }

    /// Records the result of a job. It is not reported before
    /// [`mark_persisted`](Self::mark_persisted).
    pub(super) fn finish(&mut self, key: &JobKey, result: Result<()>, changes: AppliedChanges) {
        if result.is_ok() {
            self.applied.flavor = changes.flavor.or(self.applied.flavor.take());
            self.applied.release = changes.release.or(self.applied.release.take());
        }
        if let Some(job) = self.jobs.iter_mut().find(|job| job.key == *key) {
            job.result = Some(result);
        }
    }

    /// Records that the result of a job is persisted.
    pub(super) fn mark_persisted(&mut self, key: &JobKey) {
        if let Some(job) = self.jobs.iter_mut().find(|job| job.key == *key) {
            job.persisted = true;
        }
    }

    /// Returns the status of a job, or `None` if the job is unknown.
    pub(super) fn job_status(&mut self, key: &JobKey) -> Option<Result<JobStatus>> {
        self.jobs.iter_mut().find(|job| job.key == *key).map(JobRecord::report)
    }

    fn to_persisted(&self) -> PersistedState {
        let done = self.jobs.iter().filter(|job| matches!(job.result, Some(Ok(()))));
        let done = done.map(|job| (job.key.clone(), job.arguments.clone())).collect();
        PersistedState {
            intent: self.intent,
            epoch: self.epoch,
            applied: self.applied.clone(),
            identities: self.identities.clone(),
            done,
        }
    }
}

impl AppliedChanges {
    /// Returns the changes of the server that a successful job makes.
    pub(super) fn of(job: &Job) -> Self {
        match job {
            Job::Resize(flavor) | Job::RevertResize(flavor) => Self { flavor: Some(flavor.clone()), ..Self::default() },
            Job::Upgrade(to) | Job::RevertUpgrade(to) => {
                Self { release: Some((to.version.clone(), to.image.clone())), ..Self::default() }
            }
            _ => Self::default(),
        }
    }
}

impl JobRecord {
    fn new(key: JobKey, arguments: String, cancel: CancellationToken) -> Self {
        Self { key, arguments, cancel, result: None, persisted: false, reported: false }
    }

    fn report(&mut self) -> Result<JobStatus> {
        let result = self.result.clone().filter(|_| self.persisted);
        self.reported = result.is_some();
        result.map_or(Ok(JobStatus::Running), |result| result.map(|()| JobStatus::Done))
    }
}
