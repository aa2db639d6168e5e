//! The scratch server from which the parameter catalog is read. It runs the instance's image in a
//! directory of its own below the agent's, and is removed whatever the result.

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
    Engine, containers::run_to_completion, failed, host_paths::SCRATCH, monitors::blocking, own, safe_fs::remove_tree,
    spec,
};

/// How long a removal waits until the scratch server is gone.
const END_LIMIT: Duration = Duration::from_secs(60);

/// Ensures that there is at most one scratch server, and can cancel it.
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

    /// Returns a guard unless there is a scratch server. None is started while the guard is held.
    pub(super) fn idle(&self) -> Option<OwnedMutexGuard<()>> {
        Arc::clone(&self.turn).try_lock_owned().ok()
    }

    /// Cancels a running scratch server. None is started while the returned guard is held.
    pub(super) async fn end(&self) -> Result<OwnedMutexGuard<()>> {
        self.end.lock().cancel();
        let turn = timeout(END_LIMIT, Arc::clone(&self.turn).lock_owned()).await;
        turn.map_err(|_| Error::busy("the scratch server is still in use"))
    }
}

impl<E: Engine> ContainerDatastore<E> {
    /// Reads the parameter catalog of the instance's image from a scratch server.
    pub(super) async fn read_catalog(&self, cx: &Cx) -> Result<ParameterCatalog> {
        let host = self.host();
        let digest = self.ensure_image(cx, &host).await?;
        let scratch_host = scratch_host(&host);
        let docker = self.docker.clone();
        let (turn, end) = tokio::select! {
            turn = cx.waiting("wait for the scratch server", self.scratch.take()) => turn,
            () = cx.cancelled() => return Err(Error::cancelled("reading the parameters was cancelled")),
        };
        run_to_completion(cx, move |cx| async move {
            let _turn = turn;
            let probe = Self::new(docker, Arc::default(), scratch_host);
            // A scratch server of a killed attempt may be left.
            probe.remove_everything().await?;
            let read = tokio::select! {
                read = probe.read(&cx, digest) => read,
                () = end.cancelled() => Err(Error::cancelled("reading the parameters was cancelled")),
            };
            let gone = probe.remove_everything().await;
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
            owned.map_err(|error| failed("create the directories of a scratch server", &host.volume, error))
        })
        .await?;
        // The scratch server takes over nothing of the instance.
        self.skip_adoption().await;
        self.prepare(cx, &Prepare::default()).await?;
        let parameters = self.engine.parameters();
        let parameters = parameters.ok_or_else(|| Error::unsupported("this datastore has no parameters to set"))?;
        let mut parameters = cx.waiting("read parameters", parameters.read(cx)).await?;
        // The value of a reserved parameter may belong to this one server, so it is not a default
        // for others.
        parameters.iter_mut().filter(|found| found.reserved.is_some()).for_each(|found| found.default = None);
        let version = self.probe().await.1;
        let version = version.ok_or_else(|| Error::unavailable("the server does not answer"))?;
        Ok(ParameterCatalog::new(digest, version, parameters))
    }

    /// Removes everything of a scratch server.
    async fn remove_everything(&self) -> Result<()> {
        let host = self.host();
        let names = [spec::server_name(&host), spec::init_name(&host), spec::version_name(&host)];
        self.containers.remove_named(&names).await?;
        self.engine.disconnect();
        blocking(move || {
            remove_tree(&host.directory)
                .map_err(|error| failed("remove the files of a scratch server", &host.directory, error))
        })
        .await
    }
}

/// Returns the properties of the scratch server.
fn scratch_host(host: &GuestHost) -> GuestHost {
    let mut probe = host.clone();
    probe.name = spec::scratch_name(host);
    probe.directory = host.directory.join(SCRATCH);
    probe.volume = probe.directory.join("volume");
    probe.network = String::new();
    probe.flavor.memory = host.flavor.memory.max(mib(512));
    probe
}
