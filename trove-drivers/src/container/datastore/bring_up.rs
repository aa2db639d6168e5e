//! How a server comes up: what is in the way goes, data and container are made, and then it has to answer.

use std::{sync::Arc, time::Duration};

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
        spec,
    },
    docker::{ContainerSpec, State},
};

/// How often a server on its way up is asked.
const POLL: Duration = Duration::from_millis(20);

/// How long a server that hangs is given to stop before it is replaced.
const HANGING_STOP_LIMIT: Duration = Duration::from_secs(5);

/// How long a server that answers may take to let clients write.
const OPEN_LIMIT: Duration = Duration::from_secs(60);

/// How long the initialisation of a data directory may take.
const INIT_LIMIT: Duration = Duration::from_secs(300);

impl<E: Engine> ContainerDatastore<E> {
    /// Removes the container that was and renders the files anew.
    pub(super) async fn lay_out(&self, cx: &Cx) -> Result<()> {
        cx.check()?;
        self.make_way(&self.name).await?;
        self.engine.forget();
        let files = self.engine.files(&self.host, &Settings::new());
        self.on_disk(move |places| places.lay_out(&files)).await
    }

    /// Makes a container that is ready to be started.
    pub(super) async fn create_server(&self, cx: &Cx) -> Result<String> {
        cx.check()?;
        let cpus = self.docker.host().await?.cpus;
        self.ensure_network().await?;
        let spec = spec::server(&self.host, &*self.engine, &self.places, cpus);
        self.create(&spec).await
    }

    /// Makes a container, in the place of one that a former attempt asked for and that came to be only now.
    async fn create(&self, spec: &ContainerSpec) -> Result<String> {
        match self.docker.create(spec, self.request().await).await {
            Err(error) if error.kind() == Kind::Conflict => {
                self.make_way(&spec.name).await?;
                self.docker.create(spec, self.request().await).await
            }
            created => created,
        }
    }

    /// Removes a container of this name, if it is the instance's.
    async fn make_way(&self, name: &str) -> Result<()> {
        match self.docker.look(name).await? {
            None => Ok(()),
            Some(found) if spec::is_ours(&self.host, &found.labels) => self.docker.remove(&found.id).await,
            Some(_) => Err(Error::conflict(format!("a container {name} exists that is not this service's"))),
        }
    }

    async fn ensure_network(&self) -> Result<()> {
        self.docker.ensure_network(&self.host.network, &[(spec::SCOPE_LABEL, &self.host.scope)]).await
    }

    /// Fills the staging directory and makes it the data directory.
    pub(super) async fn initialise(&self, cx: &Cx) -> Result<()> {
        let name = spec::init_name(&self.host);
        // A helper of an attempt that was killed may still write there.
        self.make_way(&name).await?;
        self.on_disk(Places::sweep).await?;
        cx.check()?;
        match self.engine.initialise(&self.host, &spec::inside(&*self.engine, &self.places.staging_name())) {
            None => self.on_disk(Places::stage_empty).await?,
            Some(command) => {
                let cpus = self.docker.host().await?.cpus;
                let done = self.run_init(cx, spec::init(&self.host, &*self.engine, &self.places, cpus, command)).await;
                self.docker.remove(&name).await?;
                done?;
            }
        }
        self.on_disk(Places::commit).await
    }

    async fn run_init(&self, cx: &Cx, spec: ContainerSpec) -> Result<()> {
        let id = self.create(&spec).await?;
        cx.check()?;
        self.docker.start(&id, self.request().await).await?;
        let code = tokio::select! {
            code = self.docker.ended(&id) => code?,
            () = cx.cancelled() => return Err(Error::cancelled("the initialisation was cancelled")),
            () = sleep(INIT_LIMIT) => return Err(Error::timeout("the data directory was not initialised in time")),
        };
        if code == 0 {
            return Ok(());
        }
        let failed = match self.is_full().await {
            true => Error::no_space("the volume is too full for a new data directory"),
            false => Error::internal(format!("the data directory could not be initialised (exit code {code})")),
        };
        Err(failed.with("output", self.docker.log_tail(&id).await))
    }

    /// Starts the container that was made and waits until the server answers.
    pub(super) async fn launch(&self, cx: &Cx, id: &str) -> Result<()> {
        cx.check()?;
        cx.phase("start server");
        match self.docker.start(id, self.request().await).await {
            Err(error) if error.kind() == Kind::NotFound => {
                // The network goes with the last instance of a host, which may have been removed just now.
                self.ensure_network().await?;
                self.docker.start(id, self.request().await).await?;
            }
            started => started?,
        }
        self.answering(cx).await
    }

    /// Waits until the server answers, for as long as it lives and its limit allows.
    async fn answering(&self, cx: &Cx) -> Result<()> {
        let answered = async {
            loop {
                if self.ask().await.0.answered() {
                    return;
                }
                sleep(POLL).await;
            }
        };
        tokio::select! {
            () = answered => Ok(()),
            code = self.docker.ended(&self.name) => Err(self.start_failed(code?).await),
            () = cx.cancelled() => Err(Error::cancelled("waiting for the server was cancelled")),
            () = sleep(self.engine.start_limit()) => Err(Error::timeout("the server did not begin to answer in time")),
        }
    }

    /// Lets clients write. The server answers, and is the one that should be written to.
    pub(super) async fn open(&self, cx: &Cx) -> Result<()> {
        tokio::select! {
            opened = self.engine.open() => opened,
            () = cx.cancelled() => Err(Error::cancelled("opening the server was cancelled")),
            () = sleep(OPEN_LIMIT) => Err(Error::timeout("the server did not begin to take writes in time")),
        }
    }

    async fn start_failed(&self, code: i64) -> Error {
        let failed = match self.is_full().await {
            true => Error::no_space("the server does not start: its volume is full"),
            false => Error::internal(format!("the server does not start: it ended with exit code {code}")),
        };
        failed.with("output", self.docker.log_tail(&self.name).await)
    }

    /// True where the server is there and either answers or is on its way to.
    pub(super) async fn serves(&self, cx: &Cx) -> Result<bool> {
        let Some(found) = self.docker.look(&self.name).await? else { return Ok(false) };
        if !spec::is_ours(&self.host, &found.labels) {
            return Ok(false);
        }
        match found.state {
            State::Created | State::Exited { .. } => return Ok(false),
            State::Paused => self.docker.unpause(&self.name).await?,
            State::Running { .. } => {}
        }
        tokio::select! {
            serves = self.comes_round(cx, found.state) => serves,
            ended = self.docker.ended(&self.name) => ended.map(|_| false),
            () = cx.cancelled() => Err(Error::cancelled("waiting for the server was cancelled")),
        }
    }

    /// Waits while a running server may still be coming up; stops one that hangs, to be replaced.
    async fn comes_round(&self, cx: &Cx, state: State) -> Result<bool> {
        let pid = if let State::Running { pid } = state { pid } else { 0 };
        loop {
            match self.ask().await.0 {
                Reply::Answered | Reply::ReadOnly => return Ok(true),
                // It recovers: to replace it would begin that again.
                Reply::NotYet => return self.answering(cx).await.map(|()| true),
                Reply::Silent if self.coming_up(pid, false) => sleep(POLL).await,
                Reply::Silent => {
                    self.docker.stop(&self.name, HANGING_STOP_LIMIT).await?;
                    return Ok(false);
                }
            }
        }
    }

    pub(super) async fn check_data(&self) -> Result<()> {
        if !self.on_disk(Places::has_data).await? {
            return Err(Error::corrupt("the data directory is missing").with("path", self.places.data().display()));
        }
        let (engine, host, data) = (Arc::clone(&self.engine), Arc::clone(&self.host), self.places.data());
        blocking(move || engine.check_data(&host, &data)).await
    }

    async fn is_full(&self) -> bool {
        let (volume, size) = (self.host.volume.clone(), self.host.volume_size);
        let full = blocking(move || Ok(free(&volume).is_some_and(|free| free < least_free(size)))).await;
        full.unwrap_or(false)
    }
}
