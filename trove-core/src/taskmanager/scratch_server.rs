//! Scratch servers: temporary servers on which an image is inspected for its version and parameters.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::ControlPlane;
use crate::{
    datastore::{Cx, Datastore, Release},
    error::{Error, Result},
    id::{InstanceId, OperationId},
    model::{ByteSize, DatastoreVersion, Flavor, Instance, ParameterCatalog, gib},
    platform::{EndpointRequest, Ensured, Placement},
    time::Timestamp,
};

/// How long the platform may take to provide resources.
const PROVISION_TIMEOUT: Duration = Duration::from_secs(600);
/// How long an inspection may take.
const INSPECT_TIMEOUT: Duration = Duration::from_secs(900);
/// How long removing the server, and releasing its resources, may take.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(60);
/// The volume of a scratch server.
const VOLUME: ByteSize = gib(1);

/// The scratch servers of a service: one at a time. Each runs to its end, even if the caller stops
/// waiting.
#[derive(Default)]
pub(crate) struct ScratchServers {
    turn: Arc<Mutex<()>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl ScratchServers {
    /// Cancels the running inspection and waits until its resources are released.
    pub(crate) async fn shut_down(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl ControlPlane {
    /// Returns the parameters of a version: from the store if the image is known, otherwise from a
    /// scratch server.
    pub(crate) async fn catalog(
        self: &Arc<Self>,
        version: &DatastoreVersion,
        flavor: &Flavor,
    ) -> Result<ParameterCatalog> {
        let (name, store) = (version.datastore.clone(), self.store.clone());
        let unsupported = || Error::unsupported("this datastore does not support parameters");
        if !self.guests.driver(&version.datastore)?.manifest().configuration {
            return Err(unsupported());
        }
        self.on_scratch_server(version, flavor, async move |datastore, cx| {
            let configuration = datastore.abilities().configuration.ok_or_else(unsupported)?;
            let digest = configuration.digest(&cx).await?;
            if let Some(known) = store.cached_catalog(&name, &digest).await? {
                return Ok(known);
            }
            let catalog = configuration.catalog(&cx).await?;
            store.cache_catalog(&name, &catalog).await?;
            Ok(catalog)
        })
        .await
    }

    /// Validates that the image of a version exists and contains that version, if the driver can inspect images.
    pub(crate) async fn verify(self: &Arc<Self>, version: &DatastoreVersion, flavor: &Flavor) -> Result<()> {
        if !self.guests.driver(&version.datastore)?.manifest().upgrade {
            return Ok(());
        }
        let mut release = Release::new(&version.number, &version.image);
        release.login = self.login(&version.datastore, &version.name, &version.image).await?;
        self.on_scratch_server(version, flavor, async move |datastore, cx| match datastore.abilities().upgrade {
            Some(upgrade) => upgrade.check(&cx, &release).await,
            None => Ok(()),
        })
        .await
    }

    /// Releases the scratch servers that an earlier process left behind.
    pub(crate) async fn release_leftover_scratch_servers(&self) {
        let _turn = self.scratch_servers.turn.lock().await;
        self.release_leftovers().await;
    }

    /// Provides resources as for an instance of this version, runs `inspect` there, and releases
    /// them in any case.
    async fn on_scratch_server<T: Send + 'static, F>(
        self: &Arc<Self>,
        version: &DatastoreVersion,
        flavor: &Flavor,
        inspect: impl FnOnce(Arc<dyn Datastore>, Cx) -> F + Send + 'static,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
    {
        let (control, version, flavor) = (Arc::clone(self), version.clone(), flavor.clone());
        // Acquired before the task starts, so that a caller that stops waiting for its turn leaves nothing behind.
        let turn = Arc::clone(&self.scratch_servers.turn).lock_owned().await;
        let task = self.scratch_servers.tasks.spawn(async move {
            let _turn = turn;
            control.release_leftovers().await;
            let (id, stop) = (InstanceId::new_v4(), &control.scratch_servers.stop);
            control.store.insert_scratch_server(id).await?;
            let result = stop.run_until_cancelled(control.inspect_on(id, &version, &flavor, inspect)).await;
            control.release_or_log(id).await;
            result.unwrap_or_else(|| Err(Error::cancelled("the service is shutting down")))
        });
        task.await
            .unwrap_or_else(|error| Err(Error::internal("the task of a scratch server panicked").with_source(error)))
    }

    async fn inspect_on<T, F: Future<Output = Result<T>>>(
        &self,
        id: InstanceId,
        version: &DatastoreVersion,
        flavor: &Flavor,
        inspect: impl FnOnce(Arc<dyn Datastore>, Cx) -> F,
    ) -> Result<T> {
        let datastore = timeout(PROVISION_TIMEOUT, self.provision(id, version, flavor)).await;
        let datastore = datastore.unwrap_or_else(|_| {
            Err(Error::timeout("timed out waiting for the platform to provide a scratch server"))
        })?;
        let cx = Cx::new(OperationId::new_v4(), 0);
        let result = timeout(INSPECT_TIMEOUT, inspect(Arc::clone(&datastore), cx.clone())).await;
        let timed_out = |_| Err(Error::timeout("timed out removing the scratch server"));
        let removed = timeout(RELEASE_TIMEOUT, datastore.remove(&cx)).await.unwrap_or_else(timed_out);
        let result =
            result.unwrap_or_else(|_| Err(Error::timeout("timed out inspecting the image on a scratch server")))?;
        removed.map(|()| result)
    }

    async fn provision(
        &self,
        id: InstanceId,
        version: &DatastoreVersion,
        flavor: &Flavor,
    ) -> Result<Arc<dyn Datastore>> {
        let driver = self.guests.driver(&version.datastore)?;
        let mut instance =
            Instance::new(id, "scratch-server", &version.datastore, flavor.clone(), VOLUME, Timestamp::UNIX_EPOCH);
        instance.version.clone_from(&version.name);
        instance.version_number.clone_from(&version.number);
        instance.image.clone_from(&version.image);
        let platform = &self.platform;
        ready(async || platform.volumes.ensure_volume(id, VOLUME).await).await?;
        let request = EndpointRequest { public: false, port: driver.manifest().port };
        let endpoint = ready(async || platform.networks.ensure_endpoint(id, request).await).await?;
        let placed = ready(async || platform.compute.ensure_compute(&instance, &endpoint, None).await).await?;
        let Placement::InProcess(mut host) = placed else {
            return Err(Error::unsupported(
                "the platform cannot place a scratch server with its agent in this process",
            ));
        };
        host.login = self.login(&version.datastore, &version.name, &version.image).await?;
        driver.attach(*host)
    }

    /// Releases what interrupted inspections left behind.
    async fn release_leftovers(&self) {
        match self.store.scratch_servers().await {
            Ok(leftovers) => {
                for id in leftovers {
                    self.release_or_log(id).await;
                }
            }
            Err(error) => tracing::warn!(error = error.report(), "failed to list scratch servers"),
        }
    }

    async fn release_or_log(&self, id: InstanceId) {
        if let Err(error) = self.release_scratch_server(id).await {
            tracing::warn!(scratch_server = %id, error = error.report(), "failed to release a scratch server");
        }
    }

    async fn release_scratch_server(&self, id: InstanceId) -> Result<()> {
        let release = async {
            self.platform.compute.release_compute(id).await?;
            self.platform.networks.release_endpoint(id).await?;
            self.platform.volumes.release_volume(id).await
        };
        let timed_out = |_| Err(Error::timeout("timed out releasing the resources of a scratch server"));
        timeout(RELEASE_TIMEOUT, release).await.unwrap_or_else(timed_out)?;
        self.store.delete_scratch_server(id).await
    }
}

/// Polls until the resource is ready. The caller limits the time.
async fn ready<T, F: Future<Output = Result<Ensured<T>>>>(mut ensure: impl FnMut() -> F) -> Result<T> {
    loop {
        match ensure().await? {
            Ensured::Ready(found) => return Ok(found),
            Ensured::Pending(pause) => tokio::time::sleep(pause).await,
        }
    }
}
