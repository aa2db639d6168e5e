//! The task manager: one flow for each operation on an instance, and what they act on.
//!
//! | flow | steps | taken back |
//! |---|---|---|
//! | [`CreateInstance`] | volume, endpoint, compute, prepare | each, so that nothing is left; the instance shows why |
//! | [`DeleteInstance`] | guest, compute, endpoint, volume | never: it goes on until everything is gone |
//! | [`RestartServer`] | server | the agent goes on trying to start it |
//! | [`StopServer`] | server | it is started |
//! | [`StartServer`] | server | it is stopped |
//! | [`ConfigureInstance`] | server | it is given the settings before |
//! | [`UpgradeInstance`] | check, server, conclude | the release before is brought back, until the new one serves |
//! | [`ResizeInstance`] | server | it is given the flavor before |
//! | [`RotateIdentity`] | admit, tell, use, retire | the new one is taken away, until the guest was told of it |

mod configure;
mod create;
mod delete;
mod keeper;
mod places;
mod reseal;
mod resize;
mod rotate;
mod server;
mod trial;
mod upgrade;

#[cfg(all(test, feature = "conformance", feature = "sqlite"))]
mod crash_matrix;

use std::{sync::Arc, time::Duration};

pub use configure::ConfigureInstance;
pub use create::CreateInstance;
pub use delete::DeleteInstance;
pub(crate) use keeper::keep_guests;
pub(crate) use places::Places;
pub(crate) use reseal::reseal;
pub use resize::ResizeInstance;
pub use rotate::RotateIdentity;
pub use server::{RestartServer, StartServer, StopServer};
pub(crate) use trial::Trials;
pub use upgrade::UpgradeInstance;

use crate::{
    datastore::{RegistryLogin, Release},
    error::{Error, Result},
    flow::{Next, Registry, StepCx},
    guest::{self, Call, GuestIdentity, Guests, JobEnd, SealedGuestIdentity, Work},
    id::InstanceId,
    model::Instance,
    platform::{Ensured, Platform},
    secret::MasterKeys,
    store::{InstanceRelease, Store, StoredVersion},
};

/// How long a step waits for a guest's job before it lets go and asks again.
const JOB_PATIENCE: Duration = Duration::from_secs(20);

/// What operations act on.
pub struct ControlPlane {
    /// Where instances are written down.
    pub store: Store,
    /// What they are made of.
    pub platform: Platform,
    /// Who looks after their servers.
    pub guests: Guests,
    /// What secrets are sealed with.
    pub keys: MasterKeys,
    /// Held while an instance gets its place and agent, or loses them.
    pub(crate) places: Places,
    /// The throw-away servers.
    pub(crate) trials: Trials,
}

/// All flows there are.
pub(crate) fn registry() -> Registry<ControlPlane> {
    Registry::new()
        .with::<CreateInstance>()
        .with::<DeleteInstance>()
        .with::<RestartServer>()
        .with::<StopServer>()
        .with::<StartServer>()
        .with::<ConfigureInstance>()
        .with::<UpgradeInstance>()
        .with::<ResizeInstance>()
        .with::<RotateIdentity>()
}

impl ControlPlane {
    async fn instance(&self, id: InstanceId) -> Result<Instance> {
        self.store.instance(id).await?.ok_or_else(|| Error::not_found(format!("there is no instance {id}")))
    }

    /// Makes sure the instance has its place and its agent, once it has an endpoint.
    async fn ensure_guest(&self, instance: &Instance) -> Result<Ensured<()>> {
        let _place = self.places.lock(instance.id).await;
        self.attach(instance).await
    }

    /// The same after a start of the service, for an instance that may be deleted meanwhile.
    async fn recover_guest(&self, id: InstanceId) -> Result<Ensured<()>> {
        let _place = self.places.lock(id).await;
        match self.store.instance(id).await? {
            Some(instance) if keeper::needs_agent(&instance) => self.attach(&instance).await,
            _ => Ok(Ensured::Ready(())),
        }
    }

    /// Ends the instance's agent, gives its place back and takes away who it was.
    async fn release_guest(&self, id: InstanceId) -> Result<()> {
        let _place = self.places.lock(id).await;
        self.guests.detach(id).await;
        self.platform.compute.release_compute(id).await?;
        let numbers: Vec<u32> = self.store.identities(id).await?.into_iter().map(|identity| identity.number).collect();
        self.guests.dismiss(id, &numbers).await
    }

    /// Who the instance's guest knows that it is, made up and written down where it is nobody yet.
    async fn identity(&self, id: InstanceId) -> Result<GuestIdentity> {
        let mut known = self.store.identities(id).await?;
        if known.is_empty() {
            // A guest begins with it.
            let first =
                SealedGuestIdentity { delivered: true, ..GuestIdentity::generate(id, 1)?.wrap(&self.keys, id)? };
            self.store.insert_identity(id, &first).await?;
            known = self.store.identities(id).await?;
        }
        let newest = known.iter().rfind(|identity| identity.delivered);
        let newest = newest.ok_or_else(|| Error::not_found(format!("there is no instance {id}")))?;
        GuestIdentity::unwrap(newest, &self.keys, id)
    }

    /// The instance's identity of this number, which was written down.
    async fn identity_of(&self, id: InstanceId, number: u32) -> Result<GuestIdentity> {
        let known = self.store.identities(id).await?;
        let found = known.iter().find(|identity| identity.number == number);
        GuestIdentity::unwrap(found.ok_or_else(|| Error::internal("an identity is missing"))?, &self.keys, id)
    }

    /// Takes away the instance's identities of these numbers.
    async fn retire_identities(&self, id: InstanceId, which: impl Fn(u32) -> bool + Send) -> Result<()> {
        for SealedGuestIdentity { number, .. } in self.store.identities(id).await? {
            if which(number) {
                self.guests.retire(id, number).await?;
                self.store.remove_identity(id, number).await?;
            }
        }
        Ok(())
    }

    /// How the registry of an image of this version is signed in to, where that is needed.
    async fn login(&self, datastore: &str, version: &str, image: &str) -> Result<Option<RegistryLogin>> {
        let stored = self.store.version(datastore, version).await?;
        let Some(StoredVersion { version, password: Some(password), .. }) = stored else { return Ok(None) };
        let Some(username) = version.username else { return Ok(None) };
        match self.keys.open(&login_owner(image), &password) {
            Ok(password) => Ok(Some(RegistryLogin { username, password })),
            Err(error) => {
                // The image is on the machine already, or its registry says what is missing.
                tracing::warn!(datastore, version = version.name, error = error.report(), "a login cannot be used");
                Ok(None)
            }
        }
    }

    /// A release as a guest is told of it.
    async fn release(&self, instance: InstanceId, release: &InstanceRelease) -> Result<Release> {
        let datastore = self.instance(instance).await?.datastore;
        let mut told = Release::new(&release.number, &release.image);
        told.login = self.login(&datastore, &release.version, &release.image).await?;
        Ok(told)
    }

    async fn attach(&self, instance: &Instance) -> Result<Ensured<()>> {
        if self.guests.is_attached(instance.id) {
            return Ok(Ensured::Ready(()));
        }
        let endpoint =
            instance.endpoint.as_ref().ok_or_else(|| Error::internal("the instance has no endpoint to run at"))?;
        let identity = self.identity(instance.id).await?;
        let access = self.guests.admit(instance.id, &identity).await?;
        let login = self.login(&instance.datastore, &instance.version, &instance.image).await?;
        let setup = guest::setup(instance, &identity, &access, login.clone());
        let placed = self.platform.compute.ensure_compute(instance, endpoint, setup.as_ref()).await?;
        let placement = match placed {
            Ensured::Ready(placement) => placement,
            Ensured::Pending(pause) => return Ok(Ensured::Pending(pause)),
        };
        self.guests.attach(instance, &identity, &access, placement, login).await.map(Ensured::Ready)
    }
}

/// To what the password for an image's registry is bound when it is sealed: that registry, so that no other is told it.
pub(crate) fn login_owner(image: &str) -> String {
    let first = image.split_once('/').map_or("", |(first, _)| first);
    // What is no host name is a name on the one registry that goes without saying.
    let host = if first == "localhost" || first.contains(['.', ':']) { first } else { "" };
    format!("registry {host}")
}

/// Has the instance's guest do this; the step is done when the guest is.
async fn guest_job(cx: &StepCx<'_, ControlPlane>, work: Work) -> Result<Next> {
    let instance = cx.context.instance(cx.instance).await?;
    if let Ensured::Pending(pause) = cx.context.ensure_guest(&instance).await? {
        return Ok(Next::Wait(pause));
    }
    let call = Call { operation: cx.operation, epoch: cx.epoch, progress: Some(Arc::new(cx.progress_sink())) };
    let end = cx.context.guests.job(cx.instance, &call, work, JOB_PATIENCE, cx.cancel.cancelled()).await?;
    Ok(match end {
        JobEnd::Done => Next::Done,
        JobEnd::Running => Next::Wait(Duration::ZERO),
    })
}
