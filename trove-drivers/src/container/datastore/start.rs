//! Starts a server: cleans up, renders the configuration, creates the container, and waits for the
//! server to answer.

use std::time::Duration;

use tokio::time::sleep;
use trove_core::{
    datastore::Cx,
    error::{Error, Kind, Result},
    model::Settings,
};

use super::ContainerDatastore;
use crate::{
    container::{
        Engine,
        assess::{ProbeOutcome, least_free},
        host_paths::HostPaths,
        monitors::{blocking, free},
        settings_record::SettingsRecord,
        spec,
    },
    docker::{ContainerInfo, RunState, StartOutcome},
};

/// How often a starting server is probed.
const POLL: Duration = Duration::from_millis(20);

/// How long a hanging server gets to stop before it is replaced.
const HANGING_STOP_LIMIT: Duration = Duration::from_secs(5);

/// How long a server that answers may take to allow writes.
const ALLOW_WRITES_LIMIT: Duration = Duration::from_secs(60);

/// The maximum length of a server's error message that is shown.
const MAX_STARTUP_ERROR_CHARS: usize = 300;

/// Why a server did not start.
#[derive(Debug)]
pub(super) enum StartError {
    /// The server exited or did not answer, possibly because of its settings.
    Server(FailedStart),
    /// A failure that has nothing to do with the settings.
    Other(Error),
}

/// A server that exited or did not answer, and what it wrote.
#[derive(Debug)]
pub(super) struct FailedStart {
    pub(super) error: Error,
    pub(super) output: String,
}

impl<E: Engine> ContainerDatastore<E> {
    /// Starts a server on the existing data and waits until it answers. If it does not start with
    /// the wanted settings, falls back to those that it ran with last.
    pub(super) async fn start_server(&self, cx: &Cx) -> Result<()> {
        let mut record = self.record().await?;
        let failed = match self.attempt(cx, &mut record, None).await {
            Err(StartError::Server(failed)) => failed,
            done => return done.map_err(Error::from),
        };
        if record.fallback().is_none() {
            return Err(failed.into());
        }
        let why = self.rejection(&failed);
        let error = Error::from(failed);
        tracing::warn!(server = self.name, error = error.report(), "the server does not start with its settings");
        match self.attempt(cx, &mut record, Some(why)).await {
            Ok(()) => Ok(()),
            Err(StartError::Other(error)) => Err(error),
            Err(StartError::Server(_)) => {
                // The settings were not the cause.
                record.failed();
                self.keep(&record).await?;
                Err(error)
            }
        }
    }

    /// Starts a server with the wanted settings, or with the former ones for the given reason.
    async fn attempt(&self, cx: &Cx, record: &mut SettingsRecord, because: Option<String>) -> Result<(), StartError> {
        let settings = match (&because, record.fallback()) {
            (Some(_), Some(former)) => former.clone(),
            _ => record.wanted().clone(),
        };
        record.start(settings.clone(), because);
        self.keep(record).await?;
        self.lay_out(cx, &settings).await?;
        let id = self.create_server(cx).await?;
        self.launch(cx, &id).await?;
        record.answered();
        Ok(self.keep(record).await?)
    }

    /// Removes the old container and its helpers, and renders the configuration.
    pub(super) async fn lay_out(&self, cx: &Cx, settings: &Settings) -> Result<()> {
        cx.check()?;
        self.containers.remove_existing(&self.name).await?;
        if let Some(_turn) = self.scratch.idle() {
            // A request of a killed process may take effect only after another process checked for
            // it.
            self.containers.remove_beside(&self.name).await?;
        }
        self.engine.disconnect();
        let files = self.engine.files(&self.host(), settings);
        self.on_disk(move |paths| paths.lay_out(&files)).await
    }

    /// Creates a container that is ready to be started.
    pub(super) async fn create_server(&self, cx: &Cx) -> Result<String> {
        let cpus = self.docker.host().await?.cpus;
        self.ensure_network().await?;
        let spec = self.specs.server(&self.host(), cpus);
        self.containers.create(cx, &spec).await
    }

    async fn ensure_network(&self) -> Result<()> {
        let host = self.host();
        match host.network.as_str() {
            "" => Ok(()),
            network => {
                let directory = host.directory.display().to_string();
                let labels = [(spec::SCOPE_LABEL, host.scope.as_str()), (spec::DIRECTORY_LABEL, directory.as_str())];
                self.docker.ensure_network(network, &labels).await
            }
        }
    }

    /// Starts the container and waits until the server answers.
    pub(super) async fn launch(&self, cx: &Cx, id: &str) -> Result<(), StartError> {
        cx.check()?;
        let started = match self.containers.start(id).await {
            Err(error) if error.kind() == Kind::NotFound => {
                // The network is removed with the last instance of a host, possibly a moment ago.
                self.ensure_network().await?;
                self.containers.start(id).await?
            }
            started => started?,
        };
        if started == StartOutcome::NoProgram {
            return Err(self.wrong_image(cx, &self.host()).await.into());
        }
        self.answering(cx).await
    }

    /// Waits until the server answers, exits or exceeds its start limit.
    async fn answering(&self, cx: &Cx) -> Result<(), StartError> {
        let answered = async {
            while !self.probe().await.0.answered() {
                sleep(POLL).await;
            }
        };
        tokio::select! {
            () = cx.waiting("start server", answered) => Ok(()),
            code = self.docker.ended(&self.name) => Err(self.start_failed(code?).await),
            () = cx.cancelled() => Err(Error::cancelled("waiting for the server was cancelled").into()),
            () = sleep(self.engine.start_limit()) => {
                let error = Error::timeout("the server did not answer in time");
                let output = self.docker.log_tail(&self.name).await;
                Err(StartError::Server(FailedStart { error, output }))
            }
        }
    }

    /// Allows writes to a server that answers and is known to be the one to write to.
    pub(super) async fn allow_writes(&self, cx: &Cx) -> Result<()> {
        tokio::select! {
            opened = cx.waiting("open server", self.engine.allow_writes()) => opened,
            () = cx.cancelled() => Err(Error::cancelled("allowing writes was cancelled")),
            () = sleep(ALLOW_WRITES_LIMIT) => Err(Error::timeout("the server did not allow writes in time")),
        }
    }

    async fn start_failed(&self, code: i64) -> StartError {
        let output = self.docker.log_tail(&self.name).await;
        if self.is_full().await {
            let full = Error::no_space("the server does not start: its volume is full");
            return StartError::Other(full.with("output", output));
        }
        let error = Error::internal(format!("the server does not start: it exited with code {code}"));
        StartError::Server(FailedStart { error, output })
    }

    /// Returns why the settings were rejected, in a sentence for the tenant.
    fn rejection(&self, failed: &FailedStart) -> String {
        match self.startup_error(failed) {
            Some(line) => format!("{}; it says: {line}", failed.error),
            None => failed.error.to_string(),
        }
    }

    /// Returns the error that a server reported before it failed to start.
    pub(super) fn startup_error(&self, failed: &FailedStart) -> Option<String> {
        let line = self.engine.startup_error(&failed.output)?;
        Some(line.chars().filter(|letter| !letter.is_control()).take(MAX_STARTUP_ERROR_CHARS).collect())
    }

    /// Returns true if the server is running and either answers or will.
    pub(super) async fn serves(&self, cx: &Cx) -> Result<bool> {
        let Some(found) = self.containers.look(&self.name).await? else { return Ok(false) };
        let id = found.id.clone();
        if found.image != self.host().image || self.on_disk(move |paths| paths.is_stopping(&id)).await? {
            // A stop, an upgrade or a rollback was interrupted.
            self.take_down(cx, self.engine.stop_limit()).await?;
            return Ok(false);
        }
        match found.state {
            RunState::Created | RunState::Exited { .. } => return Ok(false),
            RunState::Paused => self.docker.unpause(&self.name).await?,
            RunState::Running { .. } => {}
        }
        let serves = tokio::select! {
            serves = cx.waiting("start server", self.wait_for_recovery(cx, found)) => serves?,
            ended = self.docker.ended(&self.name) => ended.map(|_| false)?,
            () = cx.cancelled() => return Err(Error::cancelled("waiting for the server was cancelled")),
        };
        if serves {
            let mut record = self.record().await?;
            record.answered();
            self.keep(&record).await?;
        }
        Ok(serves)
    }

    /// Waits while a running server may still be starting; stops one that hangs, so that it is
    /// replaced.
    async fn wait_for_recovery(&self, cx: &Cx, found: ContainerInfo) -> Result<bool> {
        let pid = if let RunState::Running { pid } = found.state { pid } else { 0 };
        loop {
            match self.probe().await.0 {
                ProbeOutcome::Ready | ProbeOutcome::ReadOnly => return Ok(true),
                // The server is recovering: replacing it would restart the recovery.
                ProbeOutcome::Starting => return self.answering(cx).await.map(|()| true).map_err(Error::from),
                ProbeOutcome::Unreachable if self.starting(pid, false) => sleep(POLL).await,
                ProbeOutcome::Unreachable => {
                    return self.take_down(cx, HANGING_STOP_LIMIT).await.map(|_| false);
                }
            }
        }
    }

    pub(super) async fn is_full(&self) -> bool {
        let host = self.host();
        let full =
            blocking(move || Ok(free(&host.volume).is_some_and(|free| free < least_free(host.volume_size)))).await;
        full.unwrap_or(false)
    }

    /// Refuses data that is missing, or that belongs to another engine or to another release of an
    /// interrupted upgrade.
    pub(super) async fn check_data(&self) -> Result<()> {
        if let Some(note) = self.upgrade_state().await? {
            let copied = self.on_disk(HostPaths::has_copy).await?;
            note.may_start(&(&*self.host()).into(), copied)?;
        }
        if !self.on_disk(HostPaths::has_data).await? {
            return Err(Error::corrupt("the data directory is missing").with("path", self.paths.data().display()));
        }
        let (engine, host, data) = (self.engine.clone(), self.host(), self.paths.data());
        blocking(move || engine.check_data(&host, &data)).await
    }
}

impl From<Error> for StartError {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<StartError> for Error {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Server(failed) => failed.into(),
            StartError::Other(error) => error,
        }
    }
}

impl From<FailedStart> for Error {
    fn from(FailedStart { error, output }: FailedStart) -> Self {
        error.with("output", output)
    }
}
