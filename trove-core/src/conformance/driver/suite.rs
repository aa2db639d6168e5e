//! Which cases there are, and how they are run: those that share a server one after another, several servers at a time.

use std::{collections::VecDeque, sync::Arc};

use futures_util::future::join_all;
use tokio::sync::Mutex;

use super::{
    Testbed, Trial, accounts, at_once, cancelling, configuration, contract, fencing, keys, lifecycle, observe,
    progress, repeating, resize, secrets, upgrade,
};
use crate::{
    conformance::{
        Entry, Outcome, Report,
        case::{self, Case},
    },
    datastore::{AbilitySet, Manifest},
};

/// What the cases of a group want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A server that is prepared, and used by other cases before and after: what a case makes on it has
    /// [names of its own](Trial::name), and it is left running, with the settings it had.
    Shared,
    /// A place with nothing in it.
    Empty,
}

/// What cases are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Accounts,
    Databases,
    Configuration,
    Upgrade,
    Resize,
}

/// Cases on one subject.
pub(super) struct Group {
    pub(super) name: &'static str,
    pub(super) place: Place,
    pub(super) needs: &'static [Need],
    pub(super) cases: Vec<Case<Trial>>,
}

impl Group {
    /// Cases on a server that others use, too.
    pub(super) fn shared(name: &'static str, needs: &'static [Need], cases: Vec<Case<Trial>>) -> Self {
        Self { name, place: Place::Shared, needs, cases }
    }

    /// Cases that begin with nothing.
    pub(super) fn empty(name: &'static str, needs: &'static [Need], cases: Vec<Case<Trial>>) -> Self {
        Self { name, place: Place::Empty, needs, cases }
    }
}

/// All cases, in the order in which they are told.
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

/// Tries the driver of a testbed by all cases for which it has the ability.
pub async fn certify(testbed: impl Testbed) -> Report {
    certify_only(testbed, "").await
}

/// The same by those cases only whose name holds this text.
pub async fn certify_only(testbed: impl Testbed, text: &str) -> Report {
    let testbed: Arc<dyn Testbed> = Arc::new(testbed);
    let mut report = Report { subject: testbed.driver().manifest().name.clone(), cases: Vec::new() };
    let present = match present_abilities(&testbed).await {
        Ok(abilities) => abilities,
        Err(error) => {
            let outcome = Outcome::Failed(format!("the driver cannot be attached: {error:?}"));
            report.cases.push(Entry { name: "attach".to_owned(), outcome, took: Default::default() });
            return report;
        }
    };
    let mut work = VecDeque::new();
    for group in groups() {
        let manifest = testbed.driver().manifest();
        let skipped = group.needs.iter().find_map(|need| skip_reason(*need, manifest, present));
        for case in group.cases {
            let name = format!("{}::{}", group.name, case.name);
            if !name.contains(text) {
                continue;
            }
            let number = report.cases.len();
            report.cases.push(Entry { name, outcome: Outcome::Passed, took: Default::default() });
            match &skipped {
                Some(reason) => report.cases[number].outcome = Outcome::Skipped(reason.clone()),
                None => work.push_back((number, group.place, case)),
            }
        }
    }
    let lanes = testbed.pace().lanes.max(1);
    let (work, report) = (Mutex::new(work), Mutex::new(report));
    join_all((0..lanes).map(|_| lane(&testbed, &work, &report))).await;
    report.into_inner()
}

type Work = Mutex<VecDeque<(usize, Place, Case<Trial>)>>;

/// Does what there is to do, with one shared server.
async fn lane(testbed: &Arc<dyn Testbed>, work: &Work, report: &Mutex<Report>) {
    let limit = testbed.pace().case;
    let mut shared: Option<Trial> = None;
    loop {
        let Some((number, place, case)) = work.lock().await.pop_front() else { break };
        let name = report.lock().await.cases[number].name.clone();
        let mut used = None;
        let entry = case::run(name, limit, async {
            let trial = match (place, shared.take()) {
                (Place::Empty, kept) => {
                    shared = kept;
                    Trial::begin(testbed.clone(), number).await
                }
                (Place::Shared, Some(kept)) => kept.next(number),
                (Place::Shared, None) => {
                    let trial = Trial::begin(testbed.clone(), number).await;
                    let trial = used.insert(trial);
                    trial.prepare().await;
                    return (case.run)(trial).await;
                }
            };
            (case.run)(used.insert(trial)).await;
        })
        .await;
        let Entry { name, outcome, took } = &entry;
        match outcome {
            Outcome::Failed(how) => tracing::error!(case = name, ?took, how, "a case failed"),
            Outcome::Passed | Outcome::Skipped(_) => tracing::info!(case = name, ?took, ?outcome, "a case ended"),
        }
        let spoilt = matches!(outcome, Outcome::Failed(_));
        report.lock().await.cases[number] = entry;
        if let Some(trial) = used {
            match place {
                Place::Shared if !spoilt => shared = Some(trial),
                _ => trial.clear().await,
            }
        }
    }
    if let Some(trial) = shared {
        trial.clear().await;
    }
}

/// Returns the abilities of a datastore of the driver.
async fn present_abilities(testbed: &Arc<dyn Testbed>) -> crate::error::Result<AbilitySet> {
    let host = testbed.place().await?;
    let abilities = testbed.driver().attach(host.clone()).map(|server| server.abilities().set());
    testbed.clear(&host).await?;
    abilities
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
