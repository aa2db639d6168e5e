//! The reference driver, with one bug.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use trove_core::{
    conformance::memory::MemoryDriver,
    datastore::{Accounts, Configuration, Cx, Datastore, Driver, GuestHost, Manifest, Prepare, Resize, Upgrade},
    error::Result,
    id::OperationId,
    layer::{Fence, Layered},
    model::{Flavor, Observed, Settings, UserName},
    secret::{ExposeSecret, SecretString},
};

use crate::bugs::Bug;

/// An epoch that no caller has.
const LATEST: u64 = 1 << 20;

/// A bug, and what a driver that has it knows.
pub(crate) struct Faults {
    pub(crate) bug: Bug,
    state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    sessions_stay: bool,
    pub(crate) sessions_end: bool,
    /// User, old and present password.
    passwords: Vec<(String, String, String)>,
    log: String,
    pub(crate) locked: bool,
    pub(crate) shut_out: Vec<UserName>,
    pub(crate) rights: Vec<(UserName, String)>,
}

pub(crate) struct FaultyDriver {
    inner: MemoryDriver,
    faults: Arc<Faults>,
}

/// A datastore with a bug.
pub(crate) struct Faulty {
    pub(crate) inner: Arc<dyn Datastore>,
    pub(crate) faults: Arc<Faults>,
    /// What this process alone knows.
    pub(crate) root: Mutex<bool>,
}

impl Faults {
    pub(crate) fn new(bug: Bug) -> Self {
        Self { bug, state: Mutex::default() }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn sessions_stay(&self) -> bool {
        self.state().sessions_stay
    }

    pub(crate) fn sessions_end(&self) -> bool {
        self.state().sessions_end
    }

    /// From now on no session ends.
    pub(crate) fn keep_sessions(&self) {
        self.state().sessions_stay = true;
    }

    pub(crate) fn log(&self) -> String {
        self.state().log.clone()
    }

    pub(crate) fn note(&self, password: &SecretString) {
        self.state().log.push_str(password.expose_secret());
    }

    /// The password that a user has, where it says one that it had.
    pub(crate) fn present_password(&self, user: &str, old: &str) -> Option<String> {
        let state = self.state();
        let found = state.passwords.iter().rev().find(|(name, former, _)| name == user && former == old);
        found.map(|(.., present)| present.clone())
    }

    pub(crate) fn remember_password(&self, user: &UserName, old: &str, present: &SecretString) {
        let entry = (user.name.clone(), old.to_owned(), present.expose_secret().to_owned());
        self.state().passwords.push(entry);
    }
}

impl FaultyDriver {
    pub(crate) fn new(inner: MemoryDriver, faults: Arc<Faults>) -> Self {
        Self { inner, faults }
    }
}

impl Driver for FaultyDriver {
    fn manifest(&self) -> &Manifest {
        self.inner.manifest()
    }

    fn attach(&self, host: GuestHost) -> Result<Arc<dyn Datastore>> {
        let (inner, faults) = (self.inner.attach(host)?, self.faults.clone());
        let faulty = Arc::new(Faulty { inner, faults, root: Mutex::default() });
        match self.faults.bug {
            Bug::ForgetsTheEpochAtReattach => Ok(Arc::new(Layered::new(Fence::in_memory(), faulty))),
            _ => Ok(faulty),
        }
    }

    fn check_settings(&self, flavor: &Flavor, settings: &Settings) -> Result<()> {
        self.inner.check_settings(flavor, settings)
    }
}

impl Faulty {
    /// True where the driver has this bug.
    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.faults.bug == bug
    }

    pub(crate) fn accounts(&self) -> &dyn Accounts {
        self.inner.accounts().expect("the reference has accounts")
    }

    /// On whose behalf the driver thinks that it acts.
    pub(crate) fn cx(&self, cx: &Cx) -> Cx {
        match self.faults.bug {
            Bug::IgnoresTheEpoch | Bug::ForgetsTheEpochAtReattach => {
                Cx::new(cx.operation(), LATEST).with_step(cx.step())
            }
            Bug::IgnoresKeys => Cx::new(OperationId::new_v4(), cx.epoch()),
            Bug::ForgetsAboutSteps => Cx::new(cx.operation(), cx.epoch()),
            _ => cx.clone(),
        }
    }
}

#[async_trait]
impl Datastore for Faulty {
    async fn prepare(&self, cx: &Cx, spec: &Prepare) -> Result<()> {
        self.inner.prepare(&self.cx(cx), spec).await
    }

    async fn start(&self, cx: &Cx) -> Result<()> {
        self.inner.start(&self.cx(cx)).await
    }

    async fn stop(&self, cx: &Cx) -> Result<()> {
        if self.has(Bug::ForgetsAccountsAtAStop) {
            self.forget_accounts(cx).await?;
        }
        self.inner.stop(&self.cx(cx)).await
    }

    async fn remove(&self, cx: &Cx) -> Result<()> {
        self.inner.remove(&self.cx(cx)).await
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        self.inner.observe(&self.cx(cx)).await
    }

    fn accounts(&self) -> Option<&dyn Accounts> {
        Some(self)
    }

    fn configuration(&self) -> Option<&dyn Configuration> {
        self.inner.configuration()
    }

    fn upgrade(&self) -> Option<&dyn Upgrade> {
        self.inner.upgrade()
    }

    fn resize(&self) -> Option<&dyn Resize> {
        self.inner.resize()
    }
}
