//! The driver contract: what an engine implements to be offered as a service.
//!
//! An embedder registers a [`Driver`] once. Each [`attach`](Driver::attach) returns the
//! [`Datastore`] of one instance, through which the [guest agent](crate::guest) beside the server
//! prepares, starts, stops, observes and removes the server. What not every engine supports is an
//! optional ability, returned by [`Datastore::abilities`] and declared in the [`Manifest`].
//!
//! # Rules
//!
//! Every method follows these rules:
//!
//! - **Idempotent.** A repeated call has the effect of one. Removing what is absent is `Ok`. A
//!   request for something that exists with other properties, or a reused operation key
//!   ([`Cx::operation`], [`Cx::step`]) with other arguments, is
//!   [`Conflict`](crate::error::Kind::Conflict).
//! - **Fenced.** A call that changes anything, with a lower [epoch](Cx::epoch) than an earlier
//!   call, is [`Fenced`](crate::error::Kind::Fenced), even if another process received the earlier
//!   one. A driver that wraps its datastore in [`Fence`](crate::layer::Fence) follows this rule and
//!   the one on keys.
//! - **Recoverable.** The process may be killed at any point. A method finds what earlier calls
//!   created by names derived from [`GuestHost::name`], and never by what it remembers in memory.
//! - **Cancellable.** Long waits end early when [`Cx::cancelled`] resolves, and a dropped future
//!   leaves nothing half done.
//! - **Never silent.** Long calls report [progress](Cx::progress) at least every
//!   [`Manifest::max_silence`].
//! - **Honest.** An [`Error`](crate::error::Error) states what to act on, whether a retry may help
//!   and which effect may have happened, and contains no secret. [`observe`](Datastore::observe)
//!   reports healthy only after an answer of the server.
//!
//! The suite `conformance::driver` tests all of them.

mod abilities;
mod accounts;
mod configuration;
mod context;
mod host;
mod manifest;
mod settings;
mod upgrade;
mod user_store;

use std::sync::Arc;

use async_trait::async_trait;

pub use abilities::{Abilities, AbilitySet};
pub use accounts::Accounts;
pub(crate) use accounts::no_databases;
pub use configuration::Configuration;
pub use context::{Cx, ProgressSink};
pub use host::{GuestHost, ServerIdentity, resource_name};
pub use manifest::{AccountRules, Manifest, Version};
pub use settings::{check_settings, in_units};
pub use upgrade::{RegistryLogin, Release, Resize, Upgrade};
pub use user_store::UserStore;

use crate::{
    error::Result,
    model::{Flavor, NewDatabase, NewUser, Observed, Settings},
};

/// A datastore that an embedder offers: `.datastore(PostgreSql::new())`.
///
/// ```
/// # #[cfg(feature = "conformance")] {
/// use trove_core::{
///     conformance::memory::World,
///     datastore::{Driver, GuestHost},
///     id::InstanceId,
/// };
///
/// let driver = World::new().driver();
/// let mut host = GuestHost::new(InstanceId::new_v4(), "/var/lib/trove/volume", "/var/lib/trove/guest");
/// host.version = driver.manifest().version(None)?.name.clone();
/// let datastore = driver.attach(host)?;
/// assert_eq!(datastore.abilities().set(), driver.manifest().abilities());
/// # }
/// # Ok::<_, trove_core::error::Error>(())
/// ```
pub trait Driver: Send + Sync + 'static {
    /// Returns the name, the versions, the requirements and the abilities of the engine.
    fn manifest(&self) -> &Manifest;

    /// Returns the datastore of one instance. Creates nothing.
    ///
    /// # Errors
    ///
    /// Fails only if the host cannot run the engine at all.
    fn attach(&self, host: GuestHost) -> Result<Arc<dyn Datastore>>;

    /// Rejects settings, as [`Invalid`](crate::error::Kind::Invalid), that are valid one by one but
    /// need more memory than a server of this flavor has, or contradict each other. Pure.
    fn check_settings(&self, _flavor: &Flavor, _settings: &Settings) -> Result<()> {
        Ok(())
    }
}

impl<D: Driver + ?Sized> Driver for Arc<D> {
    fn manifest(&self) -> &Manifest {
        (**self).manifest()
    }

    fn attach(&self, host: GuestHost) -> Result<Arc<dyn Datastore>> {
        (**self).attach(host)
    }

    fn check_settings(&self, flavor: &Flavor, settings: &Settings) -> Result<()> {
        (**self).check_settings(flavor, settings)
    }
}

/// The engine of one instance.
///
/// ```
/// use async_trait::async_trait;
/// use trove_core::{
///     datastore::{Abilities, Cx, Datastore, Prepare},
///     error::Result,
///     id::OperationId,
///     model::{Condition, Health, Observed, Problem},
/// };
///
/// /// A datastore whose server never runs.
/// struct Null;
///
/// #[async_trait]
/// impl Datastore for Null {
///     async fn prepare(&self, cx: &Cx, _spec: &Prepare) -> Result<()> {
///         cx.phase("initialize the data directory");
///         cx.check()
///     }
///
///     async fn start(&self, cx: &Cx) -> Result<()> {
///         cx.check()
///     }
///
///     async fn stop(&self, cx: &Cx) -> Result<()> {
///         cx.check()
///     }
///
///     async fn remove(&self, cx: &Cx) -> Result<()> {
///         cx.check()
///     }
///
///     async fn observe(&self, _cx: &Cx) -> Result<Observed> {
///         let problem = Problem::new(Condition::Removed, "the server does not exist");
///         Ok(Observed::new(Health::Down(problem)))
///     }
///
///     fn abilities(&self) -> Abilities<'_> {
///         Abilities::default()
///     }
/// }
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let cx = Cx::new(OperationId::new_v4(), 1);
/// Null.prepare(&cx, &Prepare::default()).await?;
/// Null.start(&cx).await?;
/// assert!(matches!(Null.observe(&cx).await?.health, Health::Down(_)));
/// assert!(Null.abilities().accounts.is_none());
/// # Ok::<_, trove_core::error::Error>(()) }).unwrap();
/// ```
#[async_trait]
pub trait Datastore: Send + Sync + 'static {
    /// Brings the instance from an empty volume to a running server with these databases and users.
    async fn prepare(&self, cx: &Cx, spec: &Prepare) -> Result<()>;

    /// Starts the server of a prepared instance and waits until it answers. Does nothing if it
    /// answers already. Never initializes a volume.
    async fn start(&self, cx: &Cx) -> Result<()>;

    /// Stops the server cleanly, within the engine's own time limit.
    async fn stop(&self, cx: &Cx) -> Result<()>;

    /// Removes everything that runs and everything that was created outside the volume.
    async fn remove(&self, cx: &Cx) -> Result<()>;

    /// Returns the current health of the server. Answers within a few seconds, even if the server
    /// does not.
    async fn observe(&self, cx: &Cx) -> Result<Observed>;

    /// Resolves when the health of the server may have changed, so that it is observed at once. The
    /// default never resolves.
    async fn changed(&self) {
        std::future::pending().await
    }

    /// Returns the optional abilities of the engine, the same ones that
    /// [the manifest declares](Manifest::abilities).
    fn abilities(&self) -> Abilities<'_>;
}

/// The initial content and settings of an instance.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Prepare {
    /// The databases to create.
    pub databases: Vec<NewDatabase>,
    /// The users to create, with their privileges on those databases.
    pub users: Vec<NewUser>,
    /// The initial settings.
    pub settings: Settings,
}

impl Prepare {
    /// Creates a specification with these databases and users, and without settings.
    pub fn new(databases: Vec<NewDatabase>, users: Vec<NewUser>) -> Self {
        Self { databases, users, settings: Settings::new() }
    }

    /// Replaces the settings.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }
}
