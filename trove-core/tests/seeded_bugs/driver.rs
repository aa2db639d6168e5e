//! The reference driver, with one bug.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;
use trove_core::{
    conformance::memory::MemoryDriver,
    datastore::{Accounts, Cx, Datastore, Driver, GuestHost, Manifest, Prepare, Version},
    error::Result,
    id::{InstanceId, OperationId},
    layer::{Fence, Layered},
    model::{Flavor, Observed, Progress, Settings, UserName},
    secret::{ExposeSecret, SecretString},
};

use crate::bugs::Bug;

/// Another operation of the same owner.
pub(crate) fn another(cx: &Cx) -> Cx {
    Cx::new(OperationId::new_v4(), cx.epoch())
}

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
    /// Of each instance.
    pub(crate) known: HashMap<InstanceId, Known>,
    attached: usize,
}

/// What is known of an instance.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) spec: Prepare,
    pub(crate) seen: Option<Observed>,
    pub(crate) preparing: bool,
    pub(crate) removed: bool,
    pub(crate) concluded: bool,
    pub(crate) catalogs: usize,
    pub(crate) settings: Settings,
}

pub(crate) struct FaultyDriver {
    inner: MemoryDriver,
    manifest: Manifest,
    faults: Arc<Faults>,
}

/// A datastore with a bug.
pub(crate) struct Faulty {
    pub(crate) inner: Arc<dyn Datastore>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) host: GuestHost,
    /// True where it has lost an ability.
    pub(crate) poor: bool,
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
        let mut manifest = inner.manifest().clone();
        match faults.bug {
            Bug::UnderstatesItsAbilities => {
                manifest.accounts = None;
                (manifest.configuration, manifest.upgrade, manifest.resize) = (false, false, false);
            }
            Bug::OffersWhatItCannotRun => manifest.versions.push(Version::new("3", "memory:3")),
            _ => {}
        }
        Self { inner, manifest, faults }
    }
}

impl Driver for FaultyDriver {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn attach(&self, host: GuestHost) -> Result<Arc<dyn Datastore>> {
        self.faults.state().attached += 1;
        let poor = self.faults.bug == Bug::LosesAnAbility && self.faults.state().attached.is_multiple_of(2);
        let (inner, faults) = (self.inner.attach(host.clone())?, self.faults.clone());
        let faulty = Arc::new(Faulty { inner, faults, host, poor, root: Mutex::default() });
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
        self.inner.abilities().accounts.expect("the reference has accounts")
    }

    /// What is known of the instance.
    pub(crate) fn known<T>(&self, act: impl FnOnce(&mut Known) -> T) -> T {
        act(self.faults.state().known.entry(self.host.instance).or_default())
    }

    /// On whose behalf the driver thinks that it acts.
    pub(crate) fn cx(&self, cx: &Cx) -> Cx {
        match self.faults.bug {
            Bug::IgnoresTheEpoch | Bug::ForgetsTheEpochAtReattach => {
                Cx::new(cx.operation(), LATEST).with_step(cx.step())
            }
            Bug::IgnoresKeys => Cx::new(OperationId::new_v4(), cx.epoch()),
            Bug::GoesOnWhenItIsCancelled => {
                let told = cx.clone();
                let sink = move |it: Progress| told.progress(&it.phase, it.done, it.total, &it.unit);
                Cx::new(cx.operation(), cx.epoch()).with_step(cx.step()).with_progress(Arc::new(sink))
            }
            Bug::TellsNothing => {
                let given_up = CancellationToken::new();
                if cx.check().is_err() {
                    given_up.cancel();
                }
                Cx::new(cx.operation(), cx.epoch()).with_step(cx.step()).with_cancel(given_up)
            }
            Bug::ForgetsAboutSteps => Cx::new(cx.operation(), cx.epoch()),
            _ => cx.clone(),
        }
    }
}
