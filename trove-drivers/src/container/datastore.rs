//! The life of a server in a container.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{MutexGuard, OwnedRwLockReadGuard, RwLock},
    time::{Instant, sleep, timeout},
};
use trove_core::{
    datastore::{Accounts, Cx, Datastore, GuestHost, Prepare},
    error::{Error, Kind, Result},
    model::Observed,
};

use super::{
    Answer, Engine,
    gauges::{KillGauge, Storage, StorageGauge, blocking, free},
    observe::{Facts, Reply, judge, least_free},
    places::Places,
    spec,
};
use crate::docker::{ContainerSpec, Docker, State, Waker};

/// How often a server on its way up is asked.
const POLL: Duration = Duration::from_millis(20);

/// How long one question to the server may take.
const ASK_LIMIT: Duration = Duration::from_secs(3);

/// How long a server that runs may be silent before it counts as hanging and not as coming up.
const GRACE: Duration = Duration::from_secs(15);

/// How long a server that hangs is given to stop before it is replaced.
const HANGING_STOP_LIMIT: Duration = Duration::from_secs(10);

/// How long the initialisation of a data directory may take.
const INIT_LIMIT: Duration = Duration::from_secs(300);

/// How long a removal waits for requests that are under way, and how long it goes on.
const REMOVE_LIMIT: Duration = Duration::from_secs(60);

/// The [`Datastore`] of an engine that runs in a container.
///
/// [`stop`](Datastore::stop) leaves no container, only the volume and a note that it was asked for, so that
/// [`observe`](Datastore::observe) tells a stop from a loss even after this process was replaced.
#[derive(Debug)]
pub struct ContainerDatastore<E> {
    docker: Docker,
    host: Arc<GuestHost>,
    engine: Arc<E>,
    places: Places,
    name: String,
    waker: Waker,
    /// Held by the one call at a time that changes anything.
    turn: tokio::sync::Mutex<()>,
    /// Shared by requests that make or start a container, which outlive a dropped call; a removal waits for them.
    requests: Arc<RwLock<()>>,
    storage: StorageGauge,
    kills: KillGauge,
    seen: Mutex<Seen>,
}

/// Since when the present server process is known, and whether it ever answered.
#[derive(Debug)]
struct Seen {
    pid: u32,
    since: Instant,
    answered: bool,
}

impl<E: Engine> ContainerDatastore<E> {
    /// The datastore of one instance. Makes nothing.
    pub fn new(docker: Docker, host: GuestHost, engine: E) -> Self {
        let host = Arc::new(host);
        let places = Places::new(Arc::clone(&host), engine.data_directory());
        let name = spec::server_name(&host);
        Self {
            waker: docker.waker(&name),
            turn: tokio::sync::Mutex::default(),
            requests: Arc::default(),
            storage: StorageGauge::new(places.clone(), host.volume.clone()),
            kills: KillGauge::default(),
            seen: Mutex::new(Seen { pid: 0, since: Instant::now(), answered: false }),
            docker,
            host,
            engine: Arc::new(engine),
            places,
            name,
        }
    }

    async fn turn(&self, cx: &Cx) -> Result<MutexGuard<'_, ()>> {
        cx.check()?;
        tokio::select! {
            turn = self.turn.lock() => Ok(turn),
            () = cx.cancelled() => Err(Error::cancelled("the operation was cancelled before it began")),
        }
    }

    async fn request(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.requests).read_owned().await
    }

    /// Runs what blocks on the instance's file system where it may.
    async fn on_disk<T: Send + 'static>(&self, work: impl FnOnce(&Places) -> Result<T> + Send + 'static) -> Result<T> {
        let places = self.places.clone();
        blocking(move || work(&places)).await
    }

    /// Removes the container that was and renders the files anew.
    async fn lay_out(&self, cx: &Cx) -> Result<()> {
        cx.check()?;
        self.make_way(&self.name).await?;
        self.engine.forget();
        let files = self.engine.files();
        self.on_disk(move |places| places.lay_out(&files)).await
    }

    /// Makes a container that is ready to be started.
    async fn create_server(&self, cx: &Cx) -> Result<String> {
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
    async fn initialise(&self, cx: &Cx) -> Result<()> {
        let name = spec::init_name(&self.host);
        // A helper of an attempt that was killed may still write there.
        self.make_way(&name).await?;
        self.on_disk(Places::sweep).await?;
        cx.check()?;
        match self.engine.initialise(&spec::inside(&*self.engine, &self.places.staging_name())) {
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
    async fn launch(&self, cx: &Cx, id: &str) -> Result<()> {
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
                if self.ask().await.0 == Reply::Answered {
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

    async fn start_failed(&self, code: i64) -> Error {
        let failed = match self.is_full().await {
            true => Error::no_space("the server does not start: its volume is full"),
            false => Error::internal(format!("the server does not start: it ended with exit code {code}")),
        };
        failed.with("output", self.docker.log_tail(&self.name).await)
    }

    async fn is_full(&self) -> bool {
        let (volume, size) = (self.host.volume.clone(), self.host.volume_size);
        let full = blocking(move || Ok(free(&volume).is_some_and(|free| free < least_free(size)))).await;
        full.unwrap_or(false)
    }

    /// What the server says, within a time limit.
    async fn ask(&self) -> (Reply, Option<String>) {
        match timeout(ASK_LIMIT, self.engine.ask()).await {
            Ok(Answer::Yes { version }) => (Reply::Answered, Some(version)),
            Ok(Answer::NotYet) => (Reply::NotYet, None),
            Ok(Answer::No(error)) => {
                tracing::trace!(instance = %self.host.instance, error = error.report(), "the server does not answer");
                (Reply::Silent, None)
            }
            Err(_) => {
                self.engine.forget();
                (Reply::Silent, None)
            }
        }
    }

    /// True where the server is there and either answers or is on its way to.
    async fn serves(&self, cx: &Cx) -> Result<bool> {
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
                Reply::Answered => return Ok(true),
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

    async fn check_data(&self) -> Result<()> {
        if !self.on_disk(Places::has_data).await? {
            return Err(Error::corrupt("the data directory is missing").with("path", self.places.data().display()));
        }
        let (engine, data) = (Arc::clone(&self.engine), self.places.data());
        blocking(move || engine.check_data(&data)).await
    }

    /// Removes all containers of the instance.
    async fn remove_containers(&self) -> Result<()> {
        let labels = spec::owner_labels(&self.host);
        let labels = labels.each_ref().map(|(key, value)| (*key, value.as_str()));
        loop {
            let found = self.docker.labelled(&labels).await?;
            if found.is_empty() {
                return Ok(());
            }
            for container in found {
                self.docker.remove(&container).await?;
            }
        }
    }

    /// Notes what was seen of the process, and says whether it may still be coming up.
    fn coming_up(&self, pid: u32, answered: bool) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.pid != pid {
            *seen = Seen { pid, since: Instant::now(), answered };
        }
        seen.answered |= answered;
        !seen.answered && seen.since.elapsed() < GRACE
    }
}

#[async_trait]
impl<E: Engine> Datastore for ContainerDatastore<E> {
    async fn prepare(&self, cx: &Cx, spec: &Prepare) -> Result<()> {
        let _turn = self.turn(cx).await?;
        self.on_disk(|places| places.note_stop(false)).await?;
        self.docker.ensure_image(cx, &self.host.image).await?;
        if self.on_disk(Places::has_data).await? {
            self.check_data().await?;
            if !self.serves(cx).await? {
                self.lay_out(cx).await?;
                let id = self.create_server(cx).await?;
                self.launch(cx, &id).await?;
            }
        } else {
            cx.phase("initialise data directory");
            self.lay_out(cx).await?;
            // Making a container takes the daemon about as long as the initialisation, so both are done at once.
            let (created, initialised) = tokio::join!(self.create_server(cx), self.initialise(cx));
            initialised?;
            self.launch(cx, &created?).await?;
        }
        cx.phase("create databases and users");
        self.engine.provision(cx, spec).await
    }

    async fn start(&self, cx: &Cx) -> Result<()> {
        let _turn = self.turn(cx).await?;
        self.check_data().await?;
        self.on_disk(|places| places.note_stop(false)).await?;
        if self.serves(cx).await? {
            return Ok(());
        }
        self.docker.ensure_image(cx, &self.host.image).await?;
        self.lay_out(cx).await?;
        let id = self.create_server(cx).await?;
        self.launch(cx, &id).await
    }

    async fn stop(&self, cx: &Cx) -> Result<()> {
        let _turn = self.turn(cx).await?;
        self.on_disk(|places| places.note_stop(true)).await?;
        cx.phase("stop server");
        let Some(found) = self.docker.look(&self.name).await? else { return Ok(()) };
        if !spec::is_ours(&self.host, &found.labels) {
            return Ok(());
        }
        if found.state == State::Paused {
            // A paused server cannot hear the signal.
            self.docker.unpause(&found.id).await?;
        }
        self.docker.stop(&found.id, self.engine.stop_limit()).await?;
        self.engine.forget();
        self.docker.remove(&found.id).await
    }

    async fn remove(&self, cx: &Cx) -> Result<()> {
        let _turn = self.turn(cx).await?;
        cx.phase("remove containers");
        let _settled = timeout(REMOVE_LIMIT, self.requests.write())
            .await
            .map_err(|_| Error::busy("a request to the Docker daemon is still under way"))?;
        self.engine.forget();
        timeout(REMOVE_LIMIT, self.remove_containers())
            .await
            .map_err(|_| Error::timeout("the containers were not removed in time"))??;
        self.on_disk(Places::clear).await
    }

    async fn observe(&self, _cx: &Cx) -> Result<Observed> {
        let (container, storage) = tokio::join!(self.docker.look(&self.name), self.storage.read());
        let ours = container.as_ref().map(|found| {
            let found = found.as_ref().filter(|found| spec::is_ours(&self.host, &found.labels));
            found.map(|found| found.state)
        });
        let pid = match ours {
            Ok(Some(State::Running { pid })) => Some(pid),
            _ => None,
        };
        let (answer, version) = match pid {
            Some(_) => self.ask().await,
            None => (Reply::Silent, None),
        };
        let places = self.places.clone();
        let stop_noted = blocking(move || Ok(places.stop_noted())).await.unwrap_or(false);
        let Storage { disk, data } = storage;
        let health = judge(&Facts {
            container: ours,
            answer,
            coming_up: pid.is_some_and(|pid| self.coming_up(pid, answer == Reply::Answered)),
            stop_noted,
            data,
            disk,
            volume_size: self.host.volume_size,
            killed_lately: self.kills.recent(pid),
        });
        Ok(Observed::new(health).server_version(version).disk(disk))
    }

    async fn changed(&self) {
        self.waker.woken().await;
    }

    fn accounts(&self) -> Option<&dyn Accounts> {
        self.engine.accounts()
    }
}
