//! The list of all cases, and the servers that cases share.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::{
    DriverTestbed, ServerFixture, accounts, cancellation, concurrency, configuration, contract, fencing,
    group::{Group, InitialState, Need},
    idempotency, idempotency_keys, lifecycle, observe, progress, resize, secrets, upgrade,
};
use crate::{
    conformance::{
        CaseOutcome, Report,
        case::{self, Case},
        suite::{self, Suite, SuiteCase},
    },
    datastore::{AbilitySet, Manifest},
    error::Result,
};

/// Runs all cases on a testbed, as many at a time as its [options](super::SuiteOptions) state.
///
/// See the [module page](super) for an example.
pub async fn certify(testbed: impl DriverTestbed) -> Report {
    certify_matching(testbed, "").await
}

/// Runs the cases whose names contain `filter`.
///
/// ```
/// # use tokio::runtime::Builder;
/// # let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
/// # runtime.block_on(async {
/// use trove_core::conformance::{driver::certify_matching, memory::World};
///
/// let report = certify_matching(World::new().testbed(), "accounts::users::dropping").await;
/// assert!(report.passed(), "{report}");
/// # });
/// ```
pub async fn certify_matching(testbed: impl DriverTestbed, filter: &str) -> Report {
    let (subject, concurrency) = (testbed.driver().manifest().name.clone(), testbed.options().concurrency);
    suite::certify(&subject, &DriverSuite::new(testbed), filter, concurrency).await
}

fn groups() -> Vec<Group> {
    let groups = [
        contract::groups(),
        lifecycle::groups(),
        observe::groups(),
        accounts::groups(),
        configuration::groups(),
        upgrade::groups(),
        resize::groups(),
        idempotency::groups(),
        idempotency_keys::groups(),
        fencing::groups(),
        cancellation::groups(),
        concurrency::groups(),
        progress::groups(),
        secrets::groups(),
    ];
    groups.into_iter().flatten().collect()
}

/// The suite with one testbed.
pub(in crate::conformance) struct DriverSuite {
    testbed: Arc<dyn DriverTestbed>,
    /// Shared servers that no case uses now. Earlier cases left them clean.
    idle: Mutex<Vec<ServerFixture>>,
    /// The abilities of the datastore, determined by the first case.
    present: OnceCell<AbilitySet>,
}

/// A case and its preconditions.
pub(in crate::conformance) struct DriverCase {
    /// Distinguishes the names that the case creates on a shared server from those of other cases.
    number: usize,
    initial: InitialState,
    needs: &'static [Need],
    case: Case<ServerFixture>,
}

impl DriverSuite {
    pub(in crate::conformance) fn new(testbed: impl DriverTestbed) -> Self {
        Self { testbed: Arc::new(testbed), idle: Mutex::default(), present: OnceCell::new() }
    }

    fn idle(&self) -> parking_lot::MutexGuard<'_, Vec<ServerFixture>> {
        self.idle.lock()
    }

    /// Returns the abilities of a datastore that the driver attaches to a new host.
    async fn attached_abilities(&self) -> Result<AbilitySet> {
        let host = self.testbed.allocate().await?;
        let abilities = self.testbed.driver().attach(host.clone()).map(|server| server.abilities().set());
        self.testbed.release(&host).await?;
        abilities
    }

    /// Returns the reason to skip a case with these needs, if there is one.
    async fn skip_reason(&self, needs: &[Need]) -> Result<Option<String>> {
        let present = *self.present.get_or_try_init(|| self.attached_abilities()).await?;
        let manifest = self.testbed.driver().manifest();
        Ok(needs.iter().find_map(|need| skip_reason(*need, manifest, present)))
    }
}

impl Suite for DriverSuite {
    type Case = DriverCase;

    fn cases() -> Vec<SuiteCase<DriverCase>> {
        let mut cases = Vec::new();
        for Group { name, initial, needs, coverage, cases: group_cases } in groups() {
            for case in group_cases {
                let name = format!("{name}::{}", case.name);
                let case = DriverCase { number: cases.len(), initial, needs, case };
                cases.push(SuiteCase { name, coverage, case });
            }
        }
        cases
    }

    async fn run(&self, &DriverCase { number, initial, needs, case }: &DriverCase) -> CaseOutcome {
        match self.skip_reason(needs).await {
            Ok(None) => {}
            Ok(Some(reason)) => return CaseOutcome::Skipped(reason),
            Err(error) => return CaseOutcome::Failed(format!("could not attach the datastore: {error:?}")),
        }
        let idle = if initial == InitialState::SharedServer { self.idle().pop() } else { None };
        let mut used = None;
        let outcome = case::run(self.testbed.options().case_timeout, async {
            let fixture = match idle {
                Some(idle) => used.insert(idle.for_case(number)),
                None => {
                    let fixture = used.insert(ServerFixture::create(self.testbed.clone(), number).await);
                    if initial == InitialState::SharedServer {
                        fixture.prepare().await;
                    }
                    fixture
                }
            };
            (case.run)(fixture).await;
        })
        .await;
        // A case that was skipped midway may have changed the server.
        let clean = initial == InitialState::SharedServer && matches!(outcome, CaseOutcome::Passed);
        match used {
            Some(fixture) if clean => self.idle().push(fixture),
            Some(fixture) => fixture.release().await,
            None => {}
        }
        outcome
    }

    async fn close(&self) {
        let idle = std::mem::take(&mut *self.idle());
        for fixture in idle {
            fixture.release().await;
        }
    }
}

/// Returns the reason to skip cases with this need, if the manifest does not declare the ability.
///
/// A declared ability that the datastore lacks also skips them, and fails one case of the group
/// `contract` instead.
fn skip_reason(need: Need, manifest: &Manifest, present: AbilitySet) -> Option<String> {
    let has = |abilities: AbilitySet| {
        let AbilitySet { accounts, configuration, upgrade, resize } = abilities;
        let rules = manifest.accounts.as_ref().filter(|_| accounts);
        match need {
            Need::Accounts => accounts,
            Need::Databases => rules.is_some_and(|rules| rules.databases),
            Need::NoDatabases => rules.is_some_and(|rules| !rules.databases),
            Need::Hosts => rules.is_some_and(|rules| rules.hosts),
            Need::Configuration => configuration,
            Need::Upgrade => upgrade,
            Need::Resize => resize,
        }
    };
    if !has(manifest.abilities()) {
        Some(format!("the driver does not support {need}"))
    } else if !has(present) {
        Some(format!("the datastore does not support {need}, although the manifest declares it"))
    } else {
        None
    }
}
