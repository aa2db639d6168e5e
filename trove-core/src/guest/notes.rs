//! What an agent knows, and what of it outlives the process.

use std::{
    collections::VecDeque,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{
    identity::GuestIdentities,
    protocol::{JobEnd, Work},
};
use crate::{
    error::{Error, Result},
    fs,
    id::OperationId,
    model::Flavor,
};

/// How many jobs are remembered, those that run and those that ended last.
const REMEMBERED_JOBS: usize = 16;

/// What an agent is to do about its server by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Intent {
    /// Nothing: it is being made or removed.
    None,
    Run,
    Stop,
}

/// What an agent knows. Where there is a file, what is written there before anything follows of it is: what the server
/// should do, what it has become, who the guest is, whom to obey, and which jobs are done.
pub(super) struct Notes {
    known: Arc<Mutex<Known>>,
    file: Option<PathBuf>,
    writing: tokio::sync::Mutex<()>,
}

pub(super) struct Known {
    pub(super) intent: Intent,
    pub(super) epoch: u64,
    pub(super) became: Became,
    pub(super) identities: GuestIdentities,
    jobs: VecDeque<Job>,
}

/// What jobs have made of the server, beyond what the agent was told of it at first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Became {
    pub(super) flavor: Option<Flavor>,
    /// The version and its image.
    pub(super) release: Option<(String, String)>,
}

pub(super) struct Job {
    key: Key,
    /// What was asked for, in words without secrets.
    work: String,
    cancel: CancellationToken,
    end: Option<Result<()>>,
    /// True once its end is written down: it is told to nobody before.
    kept: bool,
    /// True once somebody was told how it ended.
    heard: bool,
}

/// For which operation, and which part of it.
pub(super) type Key = (OperationId, String);

#[derive(Serialize, Deserialize)]
struct Written {
    intent: Intent,
    epoch: u64,
    became: Became,
    identities: GuestIdentities,
    /// Those that are done. One that failed is tried again when it is asked for again, and so is one that was broken off.
    done: Vec<(Key, String)>,
}

impl Notes {
    /// Those of an agent that knows no more than it was told, and writes nothing down.
    pub(super) fn of(serves: Option<bool>, epoch: u64, identities: GuestIdentities) -> Self {
        let intent = match serves {
            None => Intent::None,
            Some(true) => Intent::Run,
            Some(false) => Intent::Stop,
        };
        let known = Known { intent, epoch, became: Became::default(), identities, jobs: VecDeque::new() };
        Self { known: Arc::new(Mutex::new(known)), file: None, writing: tokio::sync::Mutex::default() }
    }

    /// Those of an agent that was there before, or may be again. Blocks on the file system.
    #[cfg(feature = "amqp")]
    pub(super) fn kept_in(
        file: PathBuf,
        serves: Option<bool>,
        epoch: u64,
        identities: GuestIdentities,
    ) -> Result<Self> {
        let mut notes = Self::of(serves, epoch, identities);
        let failed = |error: io::Error| {
            Error::internal(format!("cannot read the notes of the agent, {}", file.display())).because(error)
        };
        match std::fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
            Ok(text) => {
                let written: Written = serde_json::from_slice(&text).map_err(|error| failed(error.into()))?;
                let mut known = notes.known();
                (known.intent, known.epoch) = (written.intent, written.epoch.max(epoch));
                known.became = written.became;
                let told = std::mem::replace(&mut known.identities, written.identities);
                known.identities.add_newer(told);
                known.jobs.extend(written.done.into_iter().map(|(key, work)| Job {
                    end: Some(Ok(())),
                    kept: true,
                    heard: true,
                    ..Job::new(key, work, CancellationToken::new())
                }));
                drop(known);
            }
        }
        notes.file = Some(file);
        Ok(notes)
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what is known now.
    pub(super) async fn keep(&self) -> Result<()> {
        let Some(file) = self.file.clone() else { return Ok(()) };
        // One after the other, so that the last that is written is the last that was known.
        let _turn = self.writing.lock().await;
        let text = serde_json::to_vec(&self.known().written());
        let text = text.map_err(|error| Error::internal("the agent's notes cannot be written").because(error))?;
        let kept = tokio::task::spawn_blocking(move || fs::replace(&file, &text)).await;
        let kept = kept.unwrap_or_else(|error| Err(io::Error::other(error)));
        kept.map_err(|error| Error::unavailable("the agent cannot write down what it does").because(error))
    }
}

impl Known {
    /// Refuses a caller whose epoch is below the highest seen.
    pub(super) fn fence(&mut self, epoch: u64) -> Result<()> {
        if epoch < self.epoch {
            return Err(Error::fenced("another owner has taken the instance over"));
        }
        self.epoch = epoch;
        Ok(())
    }

    /// What has become of a job, where there is one of this key that is not to be tried again.
    /// [`Conflict`](crate::error::Kind::Conflict) where it was for something else.
    pub(super) fn join(&mut self, key: &Key, work: &str) -> Result<Option<Result<JobEnd>>> {
        let Some(at) = self.jobs.iter().position(|job| job.key == *key) else { return Ok(None) };
        if self.jobs[at].work != work {
            return Err(Error::conflict("the operation asked the guest for the same with other arguments before"));
        }
        if self.jobs[at].heard && matches!(self.jobs[at].end, Some(Err(_))) {
            // A failure that was told is not a result to keep: asked again, it is tried again.
            self.jobs.remove(at);
            return Ok(None);
        }
        Ok(Some(self.jobs[at].told()))
    }

    /// Notes a job that begins. Operations on an instance follow each other: what runs for an earlier one has been given up.
    pub(super) fn begin(&mut self, key: Key, work: String, cancel: CancellationToken) {
        self.jobs.iter().for_each(|job| job.cancel.cancel());
        while self.jobs.len() >= REMEMBERED_JOBS {
            self.jobs.pop_front();
        }
        self.jobs.push_back(Job::new(key, work, cancel));
    }

    /// Notes how a job ended, and what has become of the server by it. Nobody hears of it before it is [kept](Self::kept).
    pub(super) fn end(&mut self, key: &Key, end: Result<()>, made: Became) {
        if end.is_ok() {
            self.became.flavor = made.flavor.or(self.became.flavor.take());
            self.became.release = made.release.or(self.became.release.take());
        }
        if let Some(job) = self.jobs.iter_mut().find(|job| job.key == *key) {
            job.end = Some(end);
        }
    }

    /// Notes that the end of a job is written down.
    pub(super) fn kept(&mut self, key: &Key) {
        if let Some(job) = self.jobs.iter_mut().find(|job| job.key == *key) {
            job.kept = true;
        }
    }

    /// What has become of a job that was begun.
    pub(super) fn ended(&mut self, key: &Key) -> Option<Result<JobEnd>> {
        self.jobs.iter_mut().find(|job| job.key == *key).map(Job::told)
    }

    fn written(&self) -> Written {
        let done = self.jobs.iter().filter(|job| matches!(job.end, Some(Ok(()))));
        let done = done.map(|job| (job.key.clone(), job.work.clone())).collect();
        Written {
            intent: self.intent,
            epoch: self.epoch,
            became: self.became.clone(),
            identities: self.identities.clone(),
            done,
        }
    }
}

impl Became {
    /// What this work makes of a server when it succeeds.
    pub(super) fn by(work: &Work) -> Self {
        match work {
            Work::Resize(flavor) | Work::RevertResize(flavor) => {
                Self { flavor: Some(flavor.clone()), ..Self::default() }
            }
            Work::Upgrade(to) | Work::RevertUpgrade(to) => {
                Self { release: Some((to.version.clone(), to.image.clone())), ..Self::default() }
            }
            _ => Self::default(),
        }
    }
}

impl Job {
    fn new(key: Key, work: String, cancel: CancellationToken) -> Self {
        Self { key, work, cancel, end: None, kept: false, heard: false }
    }

    fn told(&mut self) -> Result<JobEnd> {
        let end = self.end.clone().filter(|_| self.kept);
        self.heard = end.is_some();
        end.map_or(Ok(JobEnd::Running), |end| end.map(|()| JobEnd::Done))
    }
}
