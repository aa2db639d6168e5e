//! The task manager: one flow for each operation on an instance, and the directory of guests that
//! the flows call.
//!
//! | flow | steps | undo |
//! |---|---|---|
//! | [`CreateInstance`] | volume, endpoint, compute, prepare | releases everything; the instance shows the error |
//! | [`DeleteInstance`] | guest, compute, endpoint, volume | none: retried for about ten minutes, then stuck until deleted again |
//! | [`RestartServer`] | server | none: the agent keeps restarting the server |
//! | [`StopServer`] | server | starts the server |
//! | [`StartServer`] | server | stops the server |
//! | [`ConfigureInstance`] | server | applies the previous settings |
//! | [`UpgradeInstance`] | check, server, commit | returns to the previous release, unless the new one already serves |
//! | [`ResizeInstance`] | server | restarts with the previous flavor |
//! | [`RotateIdentity`] | authorize, deliver, switch, revoke | revokes the new identity, unless the guest already has it |

mod attachment;
mod configure;
mod create;
mod delete;
mod guest_directory;
mod instance_locks;
mod notice_receiver;
mod reconciler;
mod report_queue;
mod resize;
mod rewrap;
mod rotate;
mod scratch_server;
mod server;
mod upgrade;

#[cfg(all(test, feature = "conformance", feature = "sqlite"))]
mod crash_matrix;

use std::{sync::Arc, time::Duration};

pub(crate) use configure::ConfigureInstance;
pub(crate) use create::CreateInstance;
pub(crate) use delete::DeleteInstance;
pub(crate) use guest_directory::{CallContext, GuestDirectory};
pub(crate) use instance_locks::InstanceLocks;
pub(crate) use reconciler::reconcile_guests;
pub(crate) use report_queue::ReportQueue;
pub(crate) use resize::ResizeInstance;
pub(crate) use rewrap::rewrap;
pub(crate) use rotate::RotateIdentity;
pub(crate) use scratch_server::ScratchServers;
pub(crate) use server::{RestartServer, StartServer, StopServer};
pub(crate) use upgrade::UpgradeInstance;

use crate::{
    datastore::{RegistryLogin, Release},
    error::{Error, Result},
    flow::{FlowRegistry, Limits, Next, StepCx},
    guest::{self, GuestIdentity, Job, JobStatus, SealedGuestIdentity},
    id::InstanceId,
    model::Instance,
    platform::{Ensured, Platform},
    secret::MasterKeys,
    store::{InstanceRelease, Store, StoredVersion},
};

/// The limits of asking a guest to remove its server. The guest may be hostile, so whatever it
/// answers, the platform then releases what is left.
const REMOVAL: Limits = Limits {
    deadline: Duration::from_secs(15),
    total_timeout: Duration::from_secs(15),
    tries: u32::MAX,
    optional: true,
};

/// How long a step waits for a job of the guest before it releases the operation and polls again.
const JOB_TIMEOUT: Duration = Duration::from_secs(20);

/// The context of all flows.
pub(crate) struct ControlPlane {
    pub(crate) store: Store,
    pub(crate) platform: Platform,
    pub(crate) guests: GuestDirectory,
    pub(crate) keys: MasterKeys,
    /// Locked while an instance's compute and agent are created or released.
    pub(crate) locks: InstanceLocks,
    pub(crate) scratch_servers: ScratchServers,
}

/// Returns all flows.
pub(crate) fn registry() -> FlowRegistry<ControlPlane> {
    FlowRegistry::new()
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

    /// Ensures that the instance has compute and an attached agent. Requires its endpoint.
    async fn ensure_guest(&self, instance: &Instance) -> Result<Ensured<()>> {
        let _lock = self.locks.lock(instance.id).await;
        self.attach(instance).await
    }

    /// Ensures the same for an instance that may have been deleted meanwhile.
    async fn reattach_guest(&self, id: InstanceId) -> Result<Ensured<()>> {
        let _lock = self.locks.lock(id).await;
        match self.store.instance(id).await? {
            Some(instance) if reconciler::needs_agent(&instance) => self.attach(&instance).await,
            _ => Ok(Ensured::Ready(())),
        }
    }

    /// Detaches the agent, releases the compute and revokes all logins of the guest.
    async fn release_guest(&self, id: InstanceId) -> Result<()> {
        let _lock = self.locks.lock(id).await;
        self.guests.detach(id).await;
        // First, since a hostile guest keeps its login for as long as the platform is unavailable.
        let numbers: Vec<u32> = self.store.identities(id).await?.into_iter().map(|identity| identity.number).collect();
        self.guests.revoke(id, &numbers).await?;
        self.platform.compute.release_compute(id).await
    }

    /// Returns the newest identity that the guest has, generating and storing the first one.
    async fn identity(&self, id: InstanceId) -> Result<GuestIdentity> {
        let mut known = self.store.identities(id).await?;
        if known.is_empty() {
            // The guest receives its first identity with its configuration.
            let first =
                SealedGuestIdentity { delivered: true, ..GuestIdentity::generate(id, 1)?.wrap(&self.keys, id)? };
            self.store.insert_identity(id, &first).await?;
            known = self.store.identities(id).await?;
        }
        let newest = known.iter().rfind(|identity| identity.delivered);
        let newest = newest.ok_or_else(|| Error::not_found(format!("there is no instance {id}")))?;
        GuestIdentity::unwrap(newest, &self.keys, id)
    }

    /// Returns the stored identity with this number.
    async fn identity_of(&self, id: InstanceId, number: u32) -> Result<GuestIdentity> {
        let known = self.store.identities(id).await?;
        let found = known.iter().find(|identity| identity.number == number);
        GuestIdentity::unwrap(
            found.ok_or_else(|| Error::internal("the identity of the guest is not in the store"))?,
            &self.keys,
            id,
        )
    }

    /// Revokes and removes the identities of an instance whose numbers match.
    async fn revoke_identities(&self, id: InstanceId, which: impl Fn(u32) -> bool + Send) -> Result<()> {
        for SealedGuestIdentity { number, .. } in self.store.identities(id).await? {
            if which(number) {
                self.guests.revoke_login(id, number).await?;
                self.store.remove_identity(id, number).await?;
            }
        }
        Ok(())
    }

    /// Returns the login for the registry of a version's image, if it needs one.
    async fn login(&self, datastore: &str, version: &str, image: &str) -> Result<Option<RegistryLogin>> {
        let stored = self.store.version(datastore, version).await?;
        let Some(StoredVersion { version, password: Some(password), .. }) = stored else { return Ok(None) };
        let Some(username) = version.username else { return Ok(None) };
        match self.keys.open(&login_owner(image), &password) {
            Ok(password) => Ok(Some(RegistryLogin { username, password })),
            Err(error) => {
                // Not fatal: the image may be cached, and otherwise the registry reports the missing login.
                tracing::warn!(
                    datastore,
                    version = version.name,
                    error = error.report(),
                    "could not open a registry login"
                );
                Ok(None)
            }
        }
    }

    /// Returns a release with the login that a guest needs to pull it.
    async fn release(&self, instance: InstanceId, release: &InstanceRelease) -> Result<Release> {
        let datastore = self.instance(instance).await?.datastore;
        let mut resolved = Release::new(&release.number, &release.image);
        resolved.login = self.login(&datastore, &release.version, &release.image).await?;
        Ok(resolved)
    }

    async fn attach(&self, instance: &Instance) -> Result<Ensured<()>> {
        if self.guests.is_attached(instance.id) {
            return Ok(Ensured::Ready(()));
        }
        let endpoint = instance.endpoint.as_ref().ok_or_else(|| Error::internal("the instance has no endpoint"))?;
        let identity = self.identity(instance.id).await?;
        let broker_endpoint = self.guests.authorize(instance.id, &identity).await?;
        let login = self.login(&instance.datastore, &instance.version, &instance.image).await?;
        let setup = guest::agent_setup(instance, &identity, &broker_endpoint, login.clone());
        let placed = self.platform.compute.ensure_compute(instance, endpoint, setup.as_ref()).await?;
        let placement = match placed {
            Ensured::Ready(placement) => placement,
            Ensured::Pending(pause) => return Ok(Ensured::Pending(pause)),
        };
        self.guests.attach(instance, &identity, &broker_endpoint, placement, login).await.map(Ensured::Ready)
    }
}

/// Returns the owner to which the password for an image's registry is bound when it is sealed: the
/// registry, so that the password is never sent to another one.
pub(crate) fn login_owner(image: &str) -> String {
    let first = image.split_once('/').map_or("", |(first, _)| first);
    // Anything but a host name is a repository on the default registry.
    let host = if first == "localhost" || first.contains(['.', ':']) { first } else { "" };
    format!("registry {host}")
}

/// Runs a job on the guest of the instance. The step is done when the job is.
async fn guest_job(cx: &StepCx<'_, ControlPlane>, job: Job) -> Result<Next> {
    let instance = cx.context.instance(cx.instance).await?;
    if let Ensured::Pending(pause) = cx.context.ensure_guest(&instance).await? {
        return Ok(Next::Wait(pause));
    }
    let context =
        CallContext { operation: cx.operation, epoch: cx.epoch, progress: Some(Arc::new(cx.progress_sink())) };
    let status = cx.context.guests.run_job(cx.instance, &context, job, JOB_TIMEOUT, cx.cancel.cancelled()).await?;
    Ok(match status {
        JobStatus::Done => Next::Done,
        JobStatus::Running => Next::Wait(Duration::ZERO),
    })
}

impl<T> From<Ensured<T>> for Next {
    fn from(ensured: Ensured<T>) -> Self {
        match ensured {
            Ensured::Ready(_) => Self::Done,
            Ensured::Pending(pause) => Self::Wait(pause),
        }
    }
}
