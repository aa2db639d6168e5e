//! The driver contract: what an engine implements to be offered as a service.
//!
//! A [`Driver`] is registered once. Each [`attach`](Driver::attach) gives the [`Datastore`] of one instance, through
//! which the [guest agent](crate::guest) that lives beside the server prepares, starts, stops, watches and removes it.
//! What not every engine can do is an optional ability, returned as a typed handle: [`Datastore::accounts`].
//!
//! # Rules
//!
//! Every method keeps these:
//!
//! - **Idempotent.** Called twice it ends where once would. Removing what is absent is `Ok`. Asked for something that
//!   exists differently, or with the key of a former call ([`Cx::operation`], [`Cx::step`]) and other arguments, it is
//!   [`Conflict`](crate::error::Kind::Conflict).
//! - **Fenced.** A call that changes anything with a lower [epoch](Cx::epoch) than one before is
//!   [`Fenced`](crate::error::Kind::Fenced), whichever process heard the one before. [`Fence`](crate::layer::Fence) keeps
//!   this rule and the one on keys for a driver that wraps its datastore in it.
//! - **Found again.** What a method makes, it finds and removes by a name derived from [`GuestHost::name`]: the process
//!   may be killed between any two lines.
//! - **Cancellable.** Long waits end early when [`Cx::cancelled`] does; a future that is dropped loses nothing.
//! - **Never silent.** Long work tells [`Cx::progress`] what it is doing, at least every [`Manifest::max_silence`].
//! - **Honest.** An [`Error`](crate::error::Error) says what to act on, whether trying again may help and what may have
//!   happened already, and holds no secret. [`observe`](Datastore::observe) never says healthy without an answer.
//!
//! `conformance::driver` proves a driver's keeping of them.

mod accounts;
mod configuration;
mod context;
mod host;
mod logins;
mod manifest;
mod settings;
mod upgrade;

use std::sync::Arc;

use async_trait::async_trait;

pub use accounts::Accounts;
pub(crate) use accounts::no_databases;
pub use configuration::Configuration;
pub use context::{Cx, ProgressSink};
pub use host::{GuestHost, ServerIdentity, resource_name};
pub use logins::Logins;
pub use manifest::{AccountRules, CONTRACT_VERSION, Manifest, Version};
pub use settings::{check_settings, in_units};
pub use upgrade::{RegistryLogin, Release, Resize, Upgrade};

use crate::{
    error::Result,
    layer::{Layer, LayeredDriver},
    model::{Flavor, NewDatabase, NewUser, Observed, Settings},
};

/// A datastore that an embedder offers: `.datastore(PostgreSql::new())`.
pub trait Driver: Send + Sync + 'static {
    /// What it is called, which versions it has, what it asks of names, ports and memory.
    fn manifest(&self) -> &Manifest;

    /// The engine of one instance. Makes nothing; errors only where the host cannot carry it at all.
    fn attach(&self, host: GuestHost) -> Result<Arc<dyn Datastore>>;

    /// Refuses, as [`Invalid`](crate::error::Kind::Invalid), settings that are right by themselves and too much for a
    /// server of this size, or that do not go together. Pure.
    fn check_settings(&self, _flavor: &Flavor, _settings: &Settings) -> Result<()> {
        Ok(())
    }

    /// The same driver, with a [layer](crate::layer) around every call to its datastores, made for each.
    fn layer<L, F>(self, layer: F) -> LayeredDriver<Self, F>
    where
        Self: Sized,
        L: Layer,
        F: Fn(&GuestHost) -> L + Send + Sync + 'static,
    {
        LayeredDriver::new(self, layer)
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
#[async_trait]
pub trait Datastore: Send + Sync + 'static {
    /// Brings the instance from an empty volume to a running server with these databases and users.
    async fn prepare(&self, cx: &Cx, spec: &Prepare) -> Result<()>;

    /// Brings a prepared server to answering; does nothing to one that answers. Never initialises a volume.
    async fn start(&self, cx: &Cx) -> Result<()>;

    /// Stops the server cleanly, within the engine's own time limit.
    async fn stop(&self, cx: &Cx) -> Result<()>;

    /// Removes all that runs and all that was made outside the volume.
    async fn remove(&self, cx: &Cx) -> Result<()>;

    /// Tells what the server is like now. Answers within a few seconds, whatever the server does.
    async fn observe(&self, cx: &Cx) -> Result<Observed>;

    /// Ends when something about the server may have changed, so that it is observed at once. The default never ends.
    async fn changed(&self) {
        std::future::pending().await
    }

    /// Databases, users, rights and the tenant's root, where the engine has them.
    fn accounts(&self) -> Option<&dyn Accounts> {
        None
    }

    /// Parameters and settings, where the engine has them.
    fn configuration(&self) -> Option<&dyn Configuration> {
        None
    }

    /// Other releases on the same data, where that can be.
    fn upgrade(&self) -> Option<&dyn Upgrade> {
        None
    }

    /// Other limits, where the server can be given them.
    fn resize(&self) -> Option<&dyn Resize> {
        None
    }
}

/// What to prepare an instance with.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Prepare {
    /// Databases to create.
    pub databases: Vec<NewDatabase>,
    /// Users to create, with rights on those databases.
    pub users: Vec<NewUser>,
    /// What to set of the server's parameters.
    pub settings: Settings,
}

impl Prepare {
    /// An instance with these databases and users.
    pub fn new(databases: Vec<NewDatabase>, users: Vec<NewUser>) -> Self {
        Self { databases, users, settings: Settings::new() }
    }

    /// The same with these settings.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }
}
