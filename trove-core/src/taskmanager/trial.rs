//! Places for throw-away servers: what an image holds and what of it can be configured is asked of the image itself.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::ControlPlane;
use crate::{
    datastore::{Cx, Datastore, Release},
    error::{Error, Result},
    id::{InstanceId, OperationId},
    model::{ByteSize, DatastoreVersion, Flavor, Instance, ParameterCatalog, gib},
    platform::{Ensured, Placement},
    time::Timestamp,
};

/// How long a place may take to be ready.
const PLACE_LIMIT: Duration = Duration::from_secs(600);
/// How long a throw-away server may take to tell what is asked of it.
const TRIAL_LIMIT: Duration = Duration::from_secs(900);
/// How long it may take to give a place back.
const END_LIMIT: Duration = Duration::from_secs(60);
/// The volume of a throw-away server.
const VOLUME: ByteSize = gib(1);

/// The throw-away servers of a service: one at a time, and each to its end, whoever stops waiting for it.
#[derive(Default)]
pub(crate) struct Trials {
    turn: Arc<Mutex<()>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Trials {
    /// Has what runs give up, and waits until its place is given back.
    pub(crate) async fn shut_down(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl ControlPlane {
    /// What can be configured of a version's servers; asked of a throw-away server unless its image is known.
    pub(crate) async fn catalog(
        self: &Arc<Self>,
        version: &DatastoreVersion,
        flavor: &Flavor,
    ) -> Result<ParameterCatalog> {
        let (name, store) = (version.datastore.clone(), self.store.clone());
        self.on_trial(version, flavor, async move |datastore, cx| {
            let lacking = || Error::unsupported("this datastore has no parameters");
            let configuration = datastore.configuration().ok_or_else(lacking)?;
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

    /// Refuses a version whose image does not exist or holds something else.
    pub(crate) async fn verify(self: &Arc<Self>, version: &DatastoreVersion, flavor: &Flavor) -> Result<()> {
        let mut release = Release::new(&version.number, &version.image);
        release.login = self.login(&version.datastore, &version.name, &version.image).await?;
        self.on_trial(version, flavor, async move |datastore, cx| match datastore.upgrade() {
            Some(upgrade) => upgrade.check(&cx, &release).await,
            None => Ok(()),
        })
        .await
    }

    /// Gives places back that a former process did not come to.
    pub(crate) async fn end_trials(&self) {
        let _turn = self.trials.turn.lock().await;
        self.end_left_over().await;
    }

    /// Makes a place as for an instance of this version, asks there, and gives it back whatever came of it.
    async fn on_trial<T: Send + 'static, F>(
        self: &Arc<Self>,
        version: &DatastoreVersion,
        flavor: &Flavor,
        ask: impl FnOnce(Arc<dyn Datastore>, Cx) -> F + Send + 'static,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
    {
        let (control, version, flavor) = (Arc::clone(self), version.clone(), flavor.clone());
        // Whoever stops waiting for its turn leaves nothing behind.
        let turn = Arc::clone(&self.trials.turn).lock_owned().await;
        let trial = self.trials.tasks.spawn(async move {
            let _turn = turn;
            control.end_left_over().await;
            let (id, stop) = (InstanceId::new_v4(), &control.trials.stop);
            control.store.insert_scratch_server(id).await?;
            let answer = stop.run_until_cancelled(control.ask_on_trial(id, &version, &flavor, ask)).await;
            control.end_or_leave(id).await;
            answer.unwrap_or_else(|| Err(Error::cancelled("the service is shutting down")))
        });
        trial.await.unwrap_or_else(|error| Err(Error::internal("a throw-away server was lost").because(error)))
    }

    async fn ask_on_trial<T, F: Future<Output = Result<T>>>(
        &self,
        id: InstanceId,
        version: &DatastoreVersion,
        flavor: &Flavor,
        ask: impl FnOnce(Arc<dyn Datastore>, Cx) -> F,
    ) -> Result<T> {
        let placed = timeout(PLACE_LIMIT, self.place_trial(id, version, flavor)).await;
        let datastore = placed.unwrap_or_else(|_| Err(Error::timeout("the platform gave no place in time")))?;
        let cx = Cx::new(OperationId::new_v4(), 0);
        let answer = timeout(TRIAL_LIMIT, ask(Arc::clone(&datastore), cx.clone())).await;
        let late = |_| Err(Error::timeout("the throw-away server was not removed in time"));
        let removed = timeout(END_LIMIT, datastore.remove(&cx)).await.unwrap_or_else(late);
        let answer = answer.unwrap_or_else(|_| Err(Error::timeout("the throw-away server took too long")))?;
        removed.map(|()| answer)
    }

    async fn place_trial(
        &self,
        id: InstanceId,
        version: &DatastoreVersion,
        flavor: &Flavor,
    ) -> Result<Arc<dyn Datastore>> {
        let driver = self.guests.driver(&version.datastore)?;
        let mut instance =
            Instance::new(id, "trial", &version.datastore, flavor.clone(), VOLUME, Timestamp::UNIX_EPOCH);
        instance.version.clone_from(&version.name);
        instance.version_number.clone_from(&version.number);
        instance.image.clone_from(&version.image);
        let platform = &self.platform;
        ready(async || platform.volumes.ensure_volume(id, VOLUME).await).await?;
        let endpoint = ready(async || platform.networks.ensure_endpoint(id, false).await).await?;
        let placed = ready(async || platform.compute.ensure_compute(&instance, &endpoint, None).await).await?;
        let Placement::InProcess(mut host) = placed else {
            return Err(Error::unsupported("the platform has no place for a server whose agent is in this process"));
        };
        host.login = self.login(&version.datastore, &version.name, &version.image).await?;
        driver.attach(*host)
    }

    /// Gives back what an earlier one, which broke off, has left.
    async fn end_left_over(&self) {
        match self.store.scratch_servers().await {
            Ok(left) => {
                for id in left {
                    self.end_or_leave(id).await;
                }
            }
            Err(error) => tracing::warn!(error = error.report(), "cannot look for throw-away servers"),
        }
    }

    async fn end_or_leave(&self, id: InstanceId) {
        if let Err(error) = self.end_trial(id).await {
            tracing::warn!(trial = %id, error = error.report(), "a place is given back by the next trial, or start");
        }
    }

    async fn end_trial(&self, id: InstanceId) -> Result<()> {
        let release = async {
            self.platform.compute.release_compute(id).await?;
            self.platform.networks.release_endpoint(id).await?;
            self.platform.volumes.release_volume(id).await
        };
        let late = |_| Err(Error::timeout("the platform did not take a place back in time"));
        timeout(END_LIMIT, release).await.unwrap_or_else(late)?;
        self.store.delete_scratch_server(id).await
    }
}

/// Asks until it is ready; the caller limits it.
async fn ready<T, F: Future<Output = Result<Ensured<T>>>>(mut ensure: impl FnMut() -> F) -> Result<T> {
    loop {
        match ensure().await? {
            Ensured::Ready(found) => return Ok(found),
            Ensured::Pending(pause) => tokio::time::sleep(pause).await,
        }
    }
}
