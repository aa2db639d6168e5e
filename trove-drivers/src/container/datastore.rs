//! The life of a server in a container.

mod bring_up;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{MutexGuard, OwnedRwLockReadGuard, RwLock},
    time::{Instant, timeout},
};
use trove_core::{
    datastore::{Accounts, Cx, Datastore, GuestHost, Prepare},
    error::{Error, Result},
    model::Observed,
};

use super::{
    Answer, Engine,
    gauges::{KillGauge, Storage, StorageGauge, blocking},
    observe::{Facts, Reply, judge},
    places::Places,
    spec,
};
use crate::docker::{Docker, State, Waker};

/// How long one question to the server may take.
const ASK_LIMIT: Duration = Duration::from_secs(3);

/// How long a server that runs may be silent before it counts as hanging and not as coming up.
const GRACE: Duration = Duration::from_secs(15);

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
            if let (Err(_), Ok(id)) = (&initialised, &created) {
                self.give_up(id).await;
            }
            initialised?;
            self.launch(cx, &created?).await?;
        }
        self.open(cx).await?;
        cx.phase("create databases and users");
        self.engine.provision(cx, spec).await
    }

    async fn start(&self, cx: &Cx) -> Result<()> {
        let _turn = self.turn(cx).await?;
        self.check_data().await?;
        self.on_disk(|places| places.note_stop(false)).await?;
        if !self.serves(cx).await? {
            self.docker.ensure_image(cx, &self.host.image).await?;
            self.lay_out(cx).await?;
            let id = self.create_server(cx).await?;
            self.launch(cx, &id).await?;
        }
        self.open(cx).await
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
        let Storage { disk, data, stop_noted } = storage;
        let health = judge(&Facts {
            container: ours,
            answer,
            coming_up: pid.is_some_and(|pid| self.coming_up(pid, answer.answered())),
            overdue: pid.is_some_and(|pid| self.overdue(pid)),
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

impl<E: Engine> ContainerDatastore<E> {
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

    /// What the server says, within a time limit.
    async fn ask(&self) -> (Reply, Option<String>) {
        match timeout(ASK_LIMIT, self.engine.ask()).await {
            Ok(Answer::Yes { version }) => (Reply::Answered, Some(version)),
            Ok(Answer::ReadOnly { version }) => (Reply::ReadOnly, Some(version)),
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

    /// Removes a container that will not be started. The error that led here counts for more than one of this.
    async fn give_up(&self, container: &str) {
        if let Err(error) = self.docker.remove(container).await {
            tracing::warn!(instance = %self.host.instance, error = error.report(), "a container was left behind");
        }
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

    /// True where the process was seen for longer than a start may take.
    fn overdue(&self, pid: u32) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.pid == pid && seen.since.elapsed() > self.engine.start_limit()
    }
}

/// Since when the present server process is known, and whether it ever answered.
#[derive(Debug)]
struct Seen {
    pid: u32,
    since: Instant,
    answered: bool,
}
