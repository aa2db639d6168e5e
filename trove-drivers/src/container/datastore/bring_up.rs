//! How a server comes up: what is in the way goes, files and container are made, and then it has to answer.

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
        gauges::{blocking, free},
        observe::{Reply, least_free},
        places::Places,
        record::Record,
        spec,
    },
    docker::{Container, Started, State},
};

/// How often a server on its way up is asked.
const POLL: Duration = Duration::from_millis(20);

/// How long a server that hangs is given to stop before it is replaced.
const HANGING_STOP_LIMIT: Duration = Duration::from_secs(5);

/// How long a server that answers may take to let clients write.
const OPEN_LIMIT: Duration = Duration::from_secs(60);

/// The most letters of what a server says that are told.
const LONGEST_COMPLAINT: usize = 300;

/// Why a server did not come up.
#[derive(Debug)]
pub(super) enum Failure {
    /// It ended or did not answer, which may be for how it was configured.
    Server(Error),
    /// Something that has nothing to do with that.
    Other(Error),
}

impl<E: Engine> ContainerDatastore<E> {
    /// Makes a server on the data that is there, and waits until it answers. One that does not come up with the settings
    /// wanted is started with those that it had last.
    pub(super) async fn bring_up(&self, cx: &Cx) -> Result<()> {
        let mut record = self.record().await?;
        let failure = match self.attempt(cx, &mut record, None).await {
            Err(Failure::Server(error)) => error,
            done => return done.map_err(Error::from),
        };
        if record.fallback().is_none() {
            return Err(failure);
        }
        let why = self.complaint(&failure);
        tracing::warn!(server = self.name, error = failure.report(), "the server does not start with its settings");
        match self.attempt(cx, &mut record, Some(why)).await {
            Ok(()) => Ok(()),
            Err(Failure::Other(error)) => Err(error),
            Err(Failure::Server(_)) => {
                // So it was not the settings.
                record.failed();
                self.keep(&record).await?;
                Err(failure)
            }
        }
    }

    /// Starts a server with the settings wanted, or with the former ones for this reason.
    async fn attempt(&self, cx: &Cx, record: &mut Record, because: Option<String>) -> Result<(), Failure> {
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

    /// Removes the container that was, with what is left beside it, and renders the files anew.
    pub(super) async fn lay_out(&self, cx: &Cx, settings: &Settings) -> Result<()> {
        cx.check()?;
        self.containers.make_way(&self.name).await?;
        if let Some(_turn) = self.probe.idle() {
            // What a process that was killed had asked for may come later than another looked for it.
            self.containers.remove_beside(&self.name).await?;
        }
        self.engine.forget();
        let files = self.engine.files(&self.host(), settings);
        self.on_disk(move |places| places.lay_out(&files)).await
    }

    /// Makes a container that is ready to be started.
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

    /// Starts the container that was made and waits until the server answers.
    pub(super) async fn launch(&self, cx: &Cx, id: &str) -> Result<(), Failure> {
        cx.check()?;
        let started = match self.containers.start(id).await {
            Err(error) if error.kind() == Kind::NotFound => {
                // The network goes with the last instance of a host, which may have been removed just now.
                self.ensure_network().await?;
                self.containers.start(id).await?
            }
            started => started?,
        };
        if started == Started::NoProgram {
            return Err(self.wrong_image(cx, &self.host()).await.into());
        }
        self.answering(cx).await
    }

    /// Waits until the server answers, for as long as it lives and its limit allows.
    async fn answering(&self, cx: &Cx) -> Result<(), Failure> {
        let answered = async {
            while !self.ask().await.0.answered() {
                sleep(POLL).await;
            }
        };
        tokio::select! {
            () = cx.waiting("start server", answered) => Ok(()),
            code = self.docker.ended(&self.name) => Err(self.start_failed(code?).await),
            () = cx.cancelled() => Err(Error::cancelled("waiting for the server was cancelled").into()),
            () = sleep(self.engine.start_limit()) => {
                let error = Error::timeout("the server did not begin to answer in time");
                Err(Failure::Server(error.with(OUTPUT, self.docker.log_tail(&self.name).await)))
            }
        }
    }

    /// Lets clients write. The server answers, and is the one that should be written to.
    pub(super) async fn open(&self, cx: &Cx) -> Result<()> {
        tokio::select! {
            opened = cx.waiting("open server", self.engine.open()) => opened,
            () = cx.cancelled() => Err(Error::cancelled("opening the server was cancelled")),
            () = sleep(OPEN_LIMIT) => Err(Error::timeout("the server did not begin to take writes in time")),
        }
    }

    async fn start_failed(&self, code: i64) -> Failure {
        let output = self.docker.log_tail(&self.name).await;
        if self.is_full().await {
            let full = Error::no_space("the server does not start: its volume is full");
            return Failure::Other(full.with(OUTPUT, output));
        }
        let failed = Error::internal(format!("the server does not start: it ended with exit code {code}"));
        Failure::Server(failed.with(OUTPUT, output))
    }

    /// Why the settings are given up, in words for the tenant.
    fn complaint(&self, failure: &Error) -> String {
        match self.said(failure) {
            Some(line) => format!("{failure}; it says: {line}"),
            None => failure.to_string(),
        }
    }

    /// What a server that did not come up said of its settings.
    pub(super) fn said(&self, failure: &Error) -> Option<String> {
        let (_, output) = failure.context().find(|(key, _)| *key == OUTPUT)?;
        let line = self.engine.complaint(output)?;
        Some(line.chars().filter(|letter| !letter.is_control()).take(LONGEST_COMPLAINT).collect())
    }

    /// True where the server is there and either answers or is on its way to.
    pub(super) async fn serves(&self, cx: &Cx) -> Result<bool> {
        let Some(found) = self.containers.look(&self.name).await? else { return Ok(false) };
        let id = found.id.clone();
        if found.image != self.host().image || self.on_disk(move |places| places.is_leaving(&id)).await? {
            // A stop broke off, or an upgrade, or the way back from one.
            self.take_down(cx, self.engine.stop_limit()).await?;
            return Ok(false);
        }
        match found.state {
            State::Created | State::Exited { .. } => return Ok(false),
            State::Paused => self.docker.unpause(&self.name).await?,
            State::Running { .. } => {}
        }
        let serves = tokio::select! {
            serves = cx.waiting("start server", self.comes_round(cx, found)) => serves?,
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

    /// Waits while a running server may still be coming up; stops one that hangs, to be replaced.
    async fn comes_round(&self, cx: &Cx, found: Container) -> Result<bool> {
        let pid = if let State::Running { pid } = found.state { pid } else { 0 };
        loop {
            match self.ask().await.0 {
                Reply::Answered | Reply::ReadOnly => return Ok(true),
                // It recovers: to replace it would begin that again.
                Reply::NotYet => return self.answering(cx).await.map(|()| true).map_err(Error::from),
                Reply::Silent if self.coming_up(pid, false) => sleep(POLL).await,
                Reply::Silent => {
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

    /// Refuses data that is missing, another engine's, or that of a release that an upgrade left.
    pub(super) async fn check_data(&self) -> Result<()> {
        if let Some(note) = self.upgrade_note().await? {
            let copied = self.on_disk(Places::has_copy).await?;
            note.may_start(&(&*self.host()).into(), copied)?;
        }
        if !self.on_disk(Places::has_data).await? {
            return Err(Error::corrupt("the data directory is missing").with("path", self.places.data().display()));
        }
        let (engine, host, data) = (self.engine.clone(), self.host(), self.places.data());
        blocking(move || engine.check_data(&host, &data)).await
    }
}

/// Where an error has what the server wrote.
pub(super) const OUTPUT: &str = "output";

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Server(error) | Failure::Other(error) => error,
        }
    }
}
