//! The reference driver with one seeded bug.

use std::{collections::HashMap, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
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

/// Returns the context of a new operation with the same epoch.
pub(crate) fn new_operation(cx: &Cx) -> Cx {
    Cx::new(OperationId::new_v4(), cx.epoch())
}

/// An epoch above those of all callers.
const MAX_EPOCH: u64 = 1 << 20;

/// The seeded bug, with the state that bugs need. It is shared by all processes.
pub(crate) struct SeededBug {
    pub(crate) bug: Bug,
    state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    sessions_never_end: bool,
    pub(crate) sessions_fail: bool,
    /// User, other password and current password.
    passwords: Vec<(String, String, String)>,
    log: String,
    pub(crate) locked: bool,
    pub(crate) hidden_users: Vec<UserName>,
    pub(crate) dangling_privileges: Vec<(UserName, String)>,
    pub(crate) instances: HashMap<InstanceId, InstanceState>,
    attach_count: usize,
}

/// The state of one instance.
#[derive(Default)]
pub(crate) struct InstanceState {
    pub(crate) spec: Prepare,
    pub(crate) cached: Option<Observed>,
    pub(crate) preparing: bool,
    pub(crate) removed: bool,
    pub(crate) committed: bool,
    pub(crate) catalog_reads: usize,
    pub(crate) settings: Settings,
}

pub(crate) struct BuggyDriver {
    inner: MemoryDriver,
    manifest: Manifest,
    seeded: Arc<SeededBug>,
}

/// A datastore with a seeded bug.
pub(crate) struct BuggyDatastore {
    pub(crate) inner: Arc<dyn Datastore>,
    pub(crate) seeded: Arc<SeededBug>,
    pub(crate) host: GuestHost,
    /// Whether the ability to resize is missing.
    pub(crate) without_resize: bool,
    /// Whether root is enabled, as this process remembers it.
    pub(crate) root_enabled: Mutex<bool>,
}

impl SeededBug {
    pub(crate) fn new(bug: Bug) -> Self {
        Self { bug, state: Mutex::default() }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(crate) fn sessions_never_end(&self) -> bool {
        self.state().sessions_never_end
    }

    pub(crate) fn sessions_fail(&self) -> bool {
        self.state().sessions_fail
    }

    /// Keeps all sessions open from now on.
    pub(crate) fn keep_sessions_open(&self) {
        self.state().sessions_never_end = true;
    }

    pub(crate) fn log(&self) -> String {
        self.state().log.clone()
    }

    pub(crate) fn log_password(&self, password: &SecretString) {
        self.state().log.push_str(password.expose_secret());
    }

    /// Returns the current password of a user who logs in with another one that the bug accepts.
    pub(crate) fn current_password(&self, user: &str, other: &str) -> Option<String> {
        let state = self.state();
        let found = state.passwords.iter().rev().find(|(name, accepted, _)| name == user && accepted == other);
        found.map(|(.., current)| current.clone())
    }

    /// Lets a user log in with another password than the current one.
    pub(crate) fn accept_password(&self, user: &UserName, other: &str, current: &SecretString) {
        let entry = (user.name.clone(), other.to_owned(), current.expose_secret().to_owned());
        self.state().passwords.push(entry);
    }
}

impl BuggyDriver {
    pub(crate) fn new(inner: MemoryDriver, seeded: Arc<SeededBug>) -> Self {
        let mut manifest = inner.manifest().clone();
        match seeded.bug {
            Bug::UnderstatesAbilities => {
                manifest.accounts = None;
                (manifest.configuration, manifest.upgrade, manifest.resize) = (false, false, false);
            }
            Bug::OffersUnsupportedVersion => manifest.versions.push(Version::new("3", "memory:3")),
            _ => {}
        }
        Self { inner, manifest, seeded }
    }
}

impl Driver for BuggyDriver {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn attach(&self, host: GuestHost) -> Result<Arc<dyn Datastore>> {
        self.seeded.state().attach_count += 1;
        let without_resize =
            self.seeded.bug == Bug::LosesAbilityOnReattach && self.seeded.state().attach_count.is_multiple_of(2);
        let (inner, seeded) = (self.inner.attach(host.clone())?, self.seeded.clone());
        let datastore =
            Arc::new(BuggyDatastore { inner, seeded, host, without_resize, root_enabled: Mutex::default() });
        match self.seeded.bug {
            Bug::ForgetsEpochOnReattach => Ok(Arc::new(Layered::new(Fence::in_memory(), datastore))),
            _ => Ok(datastore),
        }
    }

    fn check_settings(&self, flavor: &Flavor, settings: &Settings) -> Result<()> {
        self.inner.check_settings(flavor, settings)
    }
}

impl BuggyDatastore {
    /// Returns whether this bug is seeded.
    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.seeded.bug == bug
    }

    pub(crate) fn accounts(&self) -> &dyn Accounts {
        self.inner.abilities().accounts.expect("the reference driver has accounts")
    }

    /// Reads or changes the state of the instance.
    pub(crate) fn instance_state<T>(&self, act: impl FnOnce(&mut InstanceState) -> T) -> T {
        act(self.seeded.state().instances.entry(self.host.instance).or_default())
    }

    /// Returns the context that the buggy driver passes on.
    pub(crate) fn cx(&self, cx: &Cx) -> Cx {
        match self.seeded.bug {
            Bug::IgnoresEpoch | Bug::ForgetsEpochOnReattach => Cx::new(cx.operation(), MAX_EPOCH).with_step(cx.step()),
            Bug::IgnoresOperationKeys => Cx::new(OperationId::new_v4(), cx.epoch()),
            Bug::IgnoresCancellation => {
                let outer = cx.clone();
                let sink =
                    move |report: Progress| outer.progress(&report.phase, report.done, report.total, &report.unit);
                Cx::new(cx.operation(), cx.epoch()).with_step(cx.step()).with_progress(Arc::new(sink))
            }
            Bug::ReportsNoProgress => {
                let cancel = CancellationToken::new();
                if cx.check().is_err() {
                    cancel.cancel();
                }
                Cx::new(cx.operation(), cx.epoch()).with_step(cx.step()).with_cancel(cancel)
            }
            Bug::IgnoresSteps => Cx::new(cx.operation(), cx.epoch()),
            _ => cx.clone(),
        }
    }
}
