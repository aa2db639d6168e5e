//! The life of a server in a container.

mod adopt;
mod configuration;
mod helper_container;
mod images;
mod initialize;
mod reclaim_space;
mod resize;
mod scratch_server;
mod settings_store;
mod start;
mod upgrade;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::MutexGuard,
    time::{Instant, timeout},
};
use trove_core::{
    datastore::{Accounts, Configuration, Cx, Datastore, GuestHost, Prepare, Resize, Upgrade},
    error::{Error, Result},
    model::Observed,
};

use self::settings_store::SettingsStore;
use super::{
    Engine, Readiness,
    assess::{Observations, ProbeOutcome, assess},
    containers::Containers,
    host_paths::HostPaths,
    monitors::{OomKillMonitor, Storage, StorageMonitor, blocking},
    spec,
};
use crate::docker::{Docker, State, Waker};

/// How long one question to the server may take.
const PROBE_LIMIT: Duration = Duration::from_secs(3);

/// How long an observation waits for what a former process left.
const ADOPT_LIMIT: Duration = Duration::from_secs(1);

/// How long a server that runs may be silent before it counts as hanging and not as coming up.
const GRACE: Duration = Duration::from_secs(15);

/// The [`Datastore`] of an engine that runs in a container.
///
/// [`stop`](Datastore::stop) leaves no container, only the volume and a note that it was asked for, so that
/// [`observe`](Datastore::observe) tells a stop from a loss even after this process was replaced.
#[derive(Debug)]
pub(crate) struct ContainerDatastore<E> {
    docker: Docker,
    /// As it is now: an upgrade changes the release, a resize the flavor.
    host: RwLock<Arc<GuestHost>>,
    /// Whether what a former process left was looked at.
    adopted: tokio::sync::Mutex<bool>,
    engine: Arc<E>,
    specs: spec::ContainerSpecs<E>,
    paths: HostPaths,
    containers: Containers,
    name: String,
    waker: Waker,
    /// Held by the one call at a time that changes anything.
    turn: tokio::sync::Mutex<()>,
    /// Held while files are copied, which may go on for a moment after a dropped call.
    copies: Arc<tokio::sync::Mutex<()>>,
    settings: SettingsStore,
    scratch: scratch_server::ScratchSlot,
    reclaim_timer: reclaim_space::ReclaimTimer,
    storage: StorageMonitor,
    kills: OomKillMonitor,
    seen: Mutex<Seen>,
}

impl<E: Engine> ContainerDatastore<E> {
    /// The datastore of one instance. Makes nothing.
    pub(crate) fn new(docker: Docker, host: GuestHost) -> Self {
        let engine = Arc::new(E::new(&host));
        let paths = HostPaths::new(&host, engine.data_directory());
        let host = Arc::new(host);
        let name = spec::server_name(&host);
        Self {
            waker: docker.waker(&name),
            turn: tokio::sync::Mutex::default(),
            copies: Arc::default(),
            settings: SettingsStore::new(paths.settings()),
            scratch: scratch_server::ScratchSlot::default(),
            storage: StorageMonitor::new(paths.clone(), host.volume.clone()),
            kills: OomKillMonitor::default(),
            seen: Mutex::new(Seen { pid: 0, since: Instant::now(), answered: false }),
            containers: Containers::new(docker.clone(), Arc::clone(&host)),
            docker,
            host: RwLock::new(host),
            adopted: tokio::sync::Mutex::default(),
            reclaim_timer: reclaim_space::ReclaimTimer::default(),
            specs: spec::ContainerSpecs::new(Arc::clone(&engine), paths.clone()),
            engine,
            paths,
            name,
        }
    }
}

#[async_trait]
impl<E: Engine> Datastore for ContainerDatastore<E> {
    async fn prepare(&self, cx: &Cx, spec: &Prepare) -> Result<()> {
        let _turn = self.turn(cx).await?;
        let new = !self.on_disk(HostPaths::has_data).await?;
        match new {
            true => self.begin_anew().await,
            false => self.adopt().await?,
        }
        self.on_disk(|paths| paths.note_stop(false)).await?;
        self.begin_settings(&spec.settings, new).await?;
        let image = self.ensure_image(cx, &self.host()).await?;
        if new {
            self.start_new(cx, &image).await?;
        } else {
            self.check_data().await?;
            if !self.serves(cx).await? {
                self.start_server(cx).await?;
            }
        }
        self.allow_writes(cx).await?;
        cx.waiting("create databases and users", self.engine.provision(cx, spec)).await
    }

    async fn start(&self, cx: &Cx) -> Result<()> {
        let _turn = self.turn(cx).await?;
        self.adopt().await?;
        self.serve(cx).await
    }

    async fn stop(&self, cx: &Cx) -> Result<()> {
        let _turn = self.turn(cx).await?;
        self.on_disk(|paths| paths.note_stop(true)).await?;
        self.take_down(cx, self.engine.stop_limit()).await.map(drop)
    }

    async fn remove(&self, cx: &Cx) -> Result<()> {
        let _turn = self.turn(cx).await?;
        cx.waiting("remove containers", async {
            let _scratch = self.scratch.end().await?;
            let _settled = self.containers.remove_all().await?;
            self.engine.disconnect();
            self.settings.forget().await;
            self.on_disk(HostPaths::clear).await
        })
        .await
    }

    async fn observe(&self, _cx: &Cx) -> Result<Observed> {
        // What it finds is not what is observed; whoever changes something next tries it again.
        let _ = timeout(ADOPT_LIMIT, self.adopt()).await;
        let (container, storage, record) =
            tokio::join!(self.containers.look(&self.name), self.storage.read(), self.known_settings());
        let state = container.as_ref().map(|found| found.as_ref().map(|found| found.state));
        let pid = match state {
            Ok(Some(State::Running { pid })) => Some(pid),
            _ => None,
        };
        let (outcome, version) = match pid {
            Some(_) => self.probe().await,
            None => (ProbeOutcome::Unreachable, None),
        };
        let Storage { disk, data, stop_noted } = storage;
        if outcome.answered() {
            self.reclaim_space(disk).await;
        }
        let health = assess(&Observations {
            container: state,
            outcome,
            coming_up: pid.is_some_and(|pid| self.coming_up(pid, outcome.answered())),
            overdue: pid.is_some_and(|pid| self.overdue(pid)),
            stop_noted,
            data,
            disk,
            volume_size: self.host().volume_size,
            killed_lately: self.kills.recent(pid),
        });
        let settings = record.map(|record| record.state(pid.is_some()));
        Ok(Observed::new(health).server_version(version).disk(disk).settings(settings))
    }

    async fn changed(&self) {
        self.waker.woken().await;
    }

    fn accounts(&self) -> Option<&dyn Accounts> {
        self.engine.accounts()
    }

    fn configuration(&self) -> Option<&dyn Configuration> {
        self.engine.parameters().is_some().then_some(self)
    }

    fn upgrade(&self) -> Option<&dyn Upgrade> {
        self.engine.version_command().is_some().then_some(self)
    }

    fn resize(&self) -> Option<&dyn Resize> {
        Some(self)
    }
}

impl<E: Engine> ContainerDatastore<E> {
    /// The place of the instance as it is now.
    fn host(&self) -> Arc<GuestHost> {
        Arc::clone(&self.host.read())
    }

    /// Makes the place of the instance another one, for all that is done from now on.
    fn change_host(&self, change: impl FnOnce(&mut GuestHost)) {
        change(Arc::make_mut(&mut self.host.write()));
    }

    async fn turn(&self, cx: &Cx) -> Result<MutexGuard<'_, ()>> {
        cx.check()?;
        if let Ok(turn) = self.turn.try_lock() {
            return Ok(turn);
        }
        tokio::select! {
            turn = cx.waiting("wait for another change", self.turn.lock()) => Ok(turn),
            () = cx.cancelled() => Err(Error::cancelled("the operation was cancelled before it began")),
        }
    }

    /// Runs what blocks on the instance's file system where it may.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&HostPaths) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let paths = self.paths.clone();
        blocking(move || work(&paths)).await
    }

    /// Brings the server to answering, whatever it does now, and opens it.
    async fn serve(&self, cx: &Cx) -> Result<()> {
        self.check_data().await?;
        self.on_disk(|paths| paths.note_stop(false)).await?;
        if !self.serves(cx).await? {
            self.ensure_image(cx, &self.host()).await?;
            self.start_server(cx).await?;
        }
        self.allow_writes(cx).await
    }

    /// What the server says, within a time limit.
    async fn probe(&self) -> (ProbeOutcome, Option<String>) {
        match timeout(PROBE_LIMIT, self.engine.probe()).await {
            Ok(Readiness::Ready { version }) => (ProbeOutcome::Ready, Some(version)),
            Ok(Readiness::ReadOnly { version }) => (ProbeOutcome::ReadOnly, Some(version)),
            Ok(Readiness::Starting) => (ProbeOutcome::Starting, None),
            Ok(Readiness::Unreachable(error)) => {
                tracing::trace!(server = self.name, error = error.report(), "the server does not answer");
                (ProbeOutcome::Unreachable, None)
            }
            Err(_) => {
                self.engine.disconnect();
                (ProbeOutcome::Unreachable, None)
            }
        }
    }

    /// Stops the server in order, or kills it after a limit, and removes its container. Returns the code with which it
    /// ended, where it had one.
    async fn take_down(&self, cx: &Cx, limit: Duration) -> Result<Option<i64>> {
        let Some(found) = self.containers.look(&self.name).await? else { return Ok(None) };
        if found.state == State::Paused {
            // A paused server cannot hear the signal.
            self.docker.unpause(&found.id).await?;
        }
        // From here on it is not one that serves, however long it still answers: the daemon stops it even where this
        // call is given up.
        let id = found.id.clone();
        self.on_disk(move |paths| paths.note_leaving(&id)).await?;
        // Some servers wait for sessions to go before they end.
        self.engine.disconnect();
        cx.waiting("stop server", self.docker.stop(&found.id, limit)).await?;
        self.engine.disconnect();
        let ended = self.containers.look(&self.name).await?;
        self.docker.remove(&found.id).await?;
        self.on_disk(HostPaths::note_gone).await?;
        Ok(ended.and_then(|ended| match ended.state {
            State::Exited { code, .. } => Some(code),
            State::Created | State::Running { .. } | State::Paused => None,
        }))
    }

    /// Notes what was seen of the process, and says whether it may still be coming up.
    fn coming_up(&self, pid: u32, answered: bool) -> bool {
        let mut seen = self.seen.lock();
        if seen.pid != pid {
            *seen = Seen { pid, since: Instant::now(), answered };
        }
        seen.answered |= answered;
        !seen.answered && seen.since.elapsed() < GRACE
    }

    /// True where the process was seen for longer than a start may take.
    fn overdue(&self, pid: u32) -> bool {
        let seen = self.seen.lock();
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
