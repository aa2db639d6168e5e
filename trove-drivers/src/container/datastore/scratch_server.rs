//! The throw-away server from which the catalog is read. It has the instance's image and a place of its own below the
//! agent's directory, and goes whatever comes of it.

use std::{fs, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::OwnedMutexGuard, time::timeout};
use tokio_util::sync::CancellationToken;
use trove_core::{
    datastore::{Cx, Datastore, GuestHost, Prepare},
    error::{Error, Result},
    model::{ParameterCatalog, mib},
};

use super::ContainerDatastore;
use crate::container::{
    Engine, containers::carried, failed, host_paths::PROBE, monitors::blocking, own, safe_fs::remove_tree, spec,
};

/// How long a removal waits for a probe to be cleared away.
const END_LIMIT: Duration = Duration::from_secs(60);

/// Whose turn it is to probe, and how they are told to end.
#[derive(Debug, Default)]
pub(super) struct ScratchSlot {
    turn: Arc<tokio::sync::Mutex<()>>,
    end: Mutex<CancellationToken>,
}

impl ScratchSlot {
    async fn take(&self) -> (OwnedMutexGuard<()>, CancellationToken) {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let end = CancellationToken::new();
        *self.end.lock() = end.clone();
        (turn, end)
    }

    /// Nothing where a probe is under way. None is begun while what is returned is held.
    pub(super) fn idle(&self) -> Option<OwnedMutexGuard<()>> {
        Arc::clone(&self.turn).try_lock_owned().ok()
    }

    /// Ends a probe that is under way. None is begun while what is returned is held.
    pub(super) async fn end(&self) -> Result<OwnedMutexGuard<()>> {
        self.end.lock().cancel();
        let turn = timeout(END_LIMIT, Arc::clone(&self.turn).lock_owned()).await;
        turn.map_err(|_| Error::busy("the parameters of the server are still being read"))
    }
}

impl<E: Engine> ContainerDatastore<E> {
    /// The catalog of the instance's image, as a server of it tells.
    pub(super) async fn probed(&self, cx: &Cx) -> Result<ParameterCatalog> {
        let host = self.host();
        let digest = self.ensure_image(cx, &host).await?;
        let probe_host = probe_host(&host);
        let docker = self.docker.clone();
        let (turn, end) = tokio::select! {
            turn = cx.waiting("wait for another look", self.scratch.take()) => turn,
            () = cx.cancelled() => return Err(Error::cancelled("reading the parameters was cancelled")),
        };
        carried(cx, move |cx| async move {
            let _turn = turn;
            let probe = Self::new(docker, probe_host);
            // One of an attempt that was killed.
            probe.vanish().await?;
            let read = tokio::select! {
                read = probe.read(&cx, digest) => read,
                () = end.cancelled() => Err(Error::cancelled("reading the parameters was cancelled")),
            };
            let gone = probe.vanish().await;
            let read = read?;
            gone.map(|()| read)
        })
        .await
    }

    async fn read(&self, cx: &Cx, digest: String) -> Result<ParameterCatalog> {
        let host = self.host();
        blocking(move || {
            let made = fs::create_dir_all(&host.volume);
            let owned = made.and_then(|()| own(&host.volume, Some(host.server.uid), Some(host.server.gid), 0o700));
            owned.map_err(|error| failed("make a place for a throw-away server", &host.volume, error))
        })
        .await?;
        // What else the instance has is none of its own.
        self.begin_anew().await;
        self.prepare(cx, &Prepare::default()).await?;
        let parameters = self.engine.parameters();
        let parameters = parameters.ok_or_else(|| Error::unsupported("this datastore has no parameters to set"))?;
        let mut parameters = cx.waiting("read parameters", parameters.read(cx)).await?;
        // What is the service's own may tell of this one server, and is nobody else's default.
        parameters.iter_mut().filter(|found| found.reserved.is_some()).for_each(|found| found.default = None);
        let version = self.probe().await.1;
        let version = version.ok_or_else(|| Error::unavailable("the server does not answer"))?;
        Ok(ParameterCatalog::new(digest, version, parameters))
    }

    /// Removes all of a throw-away server.
    async fn vanish(&self) -> Result<()> {
        let host = self.host();
        let names = [spec::server_name(&host), spec::init_name(&host), spec::version_name(&host)];
        self.containers.remove_named(&names).await?;
        self.engine.disconnect();
        blocking(move || {
            remove_tree(&host.directory)
                .map_err(|error| failed("remove the files of a throw-away server", &host.directory, error))
        })
        .await
    }
}

/// The place of the throw-away server.
fn probe_host(host: &GuestHost) -> GuestHost {
    let mut probe = host.clone();
    probe.name = spec::probe_name(host);
    probe.directory = host.directory.join(PROBE);
    probe.volume = probe.directory.join("volume");
    probe.network = String::new();
    probe.flavor.memory = host.flavor.memory.max(mib(512));
    probe
}
