//! The lifecycle of a server in a container.

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
    datastore::{Abilities, Cx, Datastore, GuestHost, Prepare},
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
use crate::docker::{Docker, EventWaiter, RunState};

/// The time limit of one readiness probe.
const PROBE_LIMIT: Duration = Duration::from_secs(3);

/// How long an observation waits for the cleanup after an earlier process.
const ADOPT_LIMIT: Duration = Duration::from_secs(1);

/// How long a running server may be unresponsive before it counts as hanging rather than starting.
const GRACE: Duration = Duration::from_secs(15);

/// The [`Datastore`] of an engine that runs in a container.
///
/// [`stop`](Datastore::stop) leaves no container, only the volume and a file that records the
/// request, so that [`observe`](Datastore::observe) can tell a stop from a loss even after the
/// agent was replaced.
#[derive(Debug)]
pub(crate) struct ContainerDatastore<E> {
    docker: Docker,
    /// The current properties: an upgrade changes the release, a resize the flavor.
    host: RwLock<Arc<GuestHost>>,
    /// Whether the state that an earlier process left was taken over.
    adopted: tokio::sync::Mutex<bool>,
    engine: Arc<E>,
    specs: spec::ContainerSpecs<E>,
    paths: HostPaths,
    containers: Containers,
    name: String,
    event_waiter: EventWaiter,
    /// Held by the one call at a time that changes something.
    turn: tokio::sync::Mutex<()>,
    /// Held while files of the host are read or changed, which continues after a dropped call.
    disk: Arc<tokio::sync::Mutex<()>>,
    /// Held while files are copied, which may continue for a moment after a dropped call.
    copies: Arc<tokio::sync::Mutex<()>>,
    settings: SettingsStore,
    scratch: scratch_server::ScratchSlot,
    reclaim_timer: reclaim_space::ReclaimTimer,
    storage: StorageMonitor,
    kills: OomKillMonitor,
    seen: Mutex<Seen>,
}

impl<E: Engine> ContainerDatastore<E> {
    /// Returns the datastore of one instance. Creates nothing.
    pub(crate) fn new(docker: Docker, disk: Arc<tokio::sync::Mutex<()>>, host: GuestHost) -> Self {
        let engine = Arc::new(E::new(&host));
        let paths = HostPaths::new(&host, engine.data_directory());
        let host = Arc::new(host);
        let name = spec::server_name(&host);
        Self {
            event_waiter: docker.event_waiter(&name),
            turn: tokio::sync::Mutex::default(),
            disk,
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
            true => self.skip_adoption().await,
            false => self.adopt().await?,
        }
        self.on_disk(|paths| paths.record_stop(false)).await?;
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
        self.on_disk(|paths| paths.record_stop(true)).await?;
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
        // A failure does not affect the observation; the next change retries it.
        let _ = timeout(ADOPT_LIMIT, self.adopt()).await;
        let (container, storage, record) =
            tokio::join!(self.containers.look(&self.name), self.storage.read(), self.known_settings());
        let state = container.as_ref().map(|found| found.as_ref().map(|found| found.state));
        let pid = match state {
            Ok(Some(RunState::Running { pid })) => Some(pid),
            _ => None,
        };
        let (outcome, version) = match pid {
            Some(_) => self.probe().await,
            None => (ProbeOutcome::Unreachable, None),
        };
        let Storage { disk, data, stop_requested } = storage;
        if outcome.answered() {
            self.reclaim_space(disk).await;
        }
        let health = assess(&Observations {
            container: state,
            outcome,
            starting: pid.is_some_and(|pid| self.starting(pid, outcome.answered())),
            overdue: pid.is_some_and(|pid| self.overdue(pid)),
            stop_requested,
            data,
            disk,
            volume_size: self.host().volume_size,
            killed_recently: self.kills.recent(pid),
        });
        let settings = record.map(|record| record.state(pid.is_some()));
        Ok(Observed::new(health).server_version(version).disk(disk).settings(settings))
    }

    async fn changed(&self) {
        self.event_waiter.next_event().await;
    }

    fn abilities(&self) -> Abilities<'_> {
        Abilities {
            accounts: self.engine.accounts(),
            configuration: self.engine.parameters().is_some().then_some(self),
            upgrade: self.engine.version_command().is_some().then_some(self),
            resize: Some(self),
        }
    }
}

impl<E: Engine> ContainerDatastore<E> {
    /// Returns the current properties of the instance.
    fn host(&self) -> Arc<GuestHost> {
        Arc::clone(&self.host.read())
    }

    /// Changes the properties of the instance, for everything that follows.
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
            () = cx.cancelled() => Err(Error::cancelled("the operation was cancelled before it started")),
        }
    }

    /// Runs blocking work on the instance's file system.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&HostPaths) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (paths, held) = (self.paths.clone(), Arc::clone(&self.disk).lock_owned().await);
        blocking(move || {
            let _held = held;
            work(&paths)
        })
        .await
    }

    /// Makes the server answer, whatever its state is, and allows writes.
    async fn serve(&self, cx: &Cx) -> Result<()> {
        self.check_data().await?;
        self.on_disk(|paths| paths.record_stop(false)).await?;
        if !self.serves(cx).await? {
            self.ensure_image(cx, &self.host()).await?;
            self.start_server(cx).await?;
        }
        self.allow_writes(cx).await
    }

    /// Probes the server, within a time limit.
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

    /// Stops the server, kills it after a limit, and removes its container. Returns the exit code,
    /// if there was one.
    async fn take_down(&self, cx: &Cx, limit: Duration) -> Result<Option<i64>> {
        let Some(found) = self.containers.look(&self.name).await? else { return Ok(None) };
        if found.state == RunState::Paused {
            // A paused server cannot receive the signal.
            self.docker.unpause(&found.id).await?;
        }
        // From here on the server no longer counts as serving, even if it still answers: the daemon
        // stops it even if this call is dropped.
        let id = found.id.clone();
        self.on_disk(move |paths| paths.record_stopping(&id)).await?;
        // Some servers wait for sessions to close before they exit.
        self.engine.disconnect();
        cx.waiting("stop server", self.docker.stop(&found.id, limit)).await?;
        self.engine.disconnect();
        let ended = self.containers.look(&self.name).await?;
        self.docker.remove(&found.id).await?;
        self.on_disk(HostPaths::clear_stopping).await?;
        Ok(ended.and_then(|ended| match ended.state {
            RunState::Exited { code, .. } => Some(code),
            RunState::Created | RunState::Running { .. } | RunState::Paused => None,
        }))
    }

    /// Records that the process was seen, and returns whether it may still be starting.
    fn starting(&self, pid: u32, answered: bool) -> bool {
        let mut seen = self.seen.lock();
        if seen.pid != pid {
            *seen = Seen { pid, since: Instant::now(), answered };
        }
        seen.answered |= answered;
        !seen.answered && seen.since.elapsed() < GRACE
    }

    /// Returns true if the process has been seen for longer than a start may take.
    fn overdue(&self, pid: u32) -> bool {
        let seen = self.seen.lock();
        seen.pid == pid && seen.since.elapsed() > self.engine.start_limit()
    }
}

/// When the current server process was first seen, and whether it has ever answered.
#[derive(Debug)]
struct Seen {
    pid: u32,
    since: Instant,
    answered: bool,
}
