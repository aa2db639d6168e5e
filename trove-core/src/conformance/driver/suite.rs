//! Which cases there are, and the servers that they share.

use std::sync::Arc;

use parking_lot::Mutex;

use tokio::sync::OnceCell;

use super::{
    ServerFixture, Testbed, accounts, at_once, cancelling, configuration, contract, fencing,
    group::{Group, Need, Server},
    keys, lifecycle, observe, progress, repeating, resize, secrets, upgrade,
};
use crate::{
    conformance::{
        Outcome, Report,
        case::{self, Case},
        suite::{self, Suite, SuiteCase},
    },
    datastore::{AbilitySet, Manifest},
    error::Result,
};

/// Runs all cases on a testbed.
pub async fn certify(testbed: impl Testbed) -> Report {
    certify_matching(testbed, "").await
}

/// Runs the cases whose names contain the filter.
pub async fn certify_matching(testbed: impl Testbed, filter: &str) -> Report {
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
        repeating::groups(),
        keys::groups(),
        fencing::groups(),
        cancelling::groups(),
        at_once::groups(),
        progress::groups(),
        secrets::groups(),
    ];
    groups.into_iter().flatten().collect()
}

/// The suite on one testbed.
pub(in crate::conformance) struct DriverSuite {
    testbed: Arc<dyn Testbed>,
    /// Servers that the cases so far left clean.
    idle: Mutex<Vec<ServerFixture>>,
    /// The abilities of an attached datastore.
    present: OnceCell<AbilitySet>,
}

/// A case, and what it begins with.
pub(in crate::conformance) struct DriverCase {
    /// Makes its names on a shared server unique.
    number: usize,
    server: Server,
    needs: &'static [Need],
    case: Case<ServerFixture>,
}

impl DriverSuite {
    pub(in crate::conformance) fn new(testbed: impl Testbed) -> Self {
        Self { testbed: Arc::new(testbed), idle: Mutex::default(), present: OnceCell::new() }
    }

    fn idle(&self) -> parking_lot::MutexGuard<'_, Vec<ServerFixture>> {
        self.idle.lock()
    }

    /// Returns the abilities of a datastore of the driver.
    async fn attached_abilities(&self) -> Result<AbilitySet> {
        let host = self.testbed.allocate().await?;
        let abilities = self.testbed.driver().attach(host.clone()).map(|server| server.abilities().set());
        self.testbed.release(&host).await?;
        abilities
    }

    /// Returns why a case with these needs is skipped.
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
        for Group { name, server, needs, coverage, cases: of_group } in groups() {
            for case in of_group {
                let name = format!("{name}::{}", case.name);
                let case = DriverCase { number: cases.len(), server, needs, case };
                cases.push(SuiteCase { name, coverage, case });
            }
        }
        cases
    }

    async fn run(&self, &DriverCase { number, server, needs, case }: &DriverCase) -> Outcome {
        match self.skip_reason(needs).await {
            Ok(None) => {}
            Ok(Some(reason)) => return Outcome::Skipped(reason),
            Err(error) => return Outcome::Failed(format!("could not attach the driver: {error:?}")),
        }
        let idle = if server == Server::Shared { self.idle().pop() } else { None };
        let mut used = None;
        let outcome = case::run(self.testbed.options().case_timeout, async {
            let fixture = match idle {
                Some(idle) => used.insert(idle.for_case(number)),
                None => {
                    let fixture = used.insert(ServerFixture::create(self.testbed.clone(), number).await);
                    if server == Server::Shared {
                        fixture.prepare().await;
                    }
                    fixture
                }
            };
            (case.run)(fixture).await;
        })
        .await;
        let clean = server == Server::Shared && !matches!(outcome, Outcome::Failed(_));
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

/// Returns why cases that need this are skipped: the manifest decides. A declared ability that the datastore lacks fails
/// one case of the group `contract`, and no other.
fn skip_reason(need: Need, manifest: &Manifest, present: AbilitySet) -> Option<String> {
    let has = |abilities: AbilitySet| {
        let AbilitySet { accounts, configuration, upgrade, resize } = abilities;
        match need {
            Need::Accounts => accounts,
            Need::Databases => accounts && manifest.accounts.as_ref().is_some_and(|rules| rules.databases),
            Need::Configuration => configuration,
            Need::Upgrade => upgrade,
            Need::Resize => resize,
        }
    };
    if !has(manifest.abilities()) {
        Some(format!("the driver has no {need:?}"))
    } else if !has(present) {
        Some(format!("the datastore lacks {need:?}, which the manifest declares"))
    } else {
        None
    }
}
