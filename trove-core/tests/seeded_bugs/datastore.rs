//! Bugs in lifecycle calls and observations.

use std::{future::pending, time::Duration};

use async_trait::async_trait;
use tokio::time::sleep;
use trove_core::{
    datastore::{Abilities, Cx, Datastore, Prepare, Resize},
    error::{Error, Kind, Result},
    model::{Condition, Health, Observed, Settings},
};

use crate::{
    bugs::Bug,
    driver::{BuggyDatastore, new_operation},
};

/// Longer than a call may take without progress.
const SILENCE: Duration = Duration::from_secs(600);

impl BuggyDatastore {
    /// Recreates the server with the spec of the last prepare, without its data.
    pub(crate) async fn wipe(&self, cx: &Cx) -> Result<()> {
        let spec = self.instance_state(|state| state.spec.clone());
        self.inner.remove(&new_operation(cx)).await?;
        self.inner.prepare(&new_operation(cx), &spec).await
    }

    pub(crate) async fn restart(&self, cx: &Cx) -> Result<()> {
        self.inner.stop(&new_operation(cx)).await?;
        self.inner.start(&new_operation(cx)).await
    }

    /// Returns the observation as the buggy driver reports it.
    fn distort(&self, mut observed: Observed) -> Observed {
        let hides = |condition| match self.seeded.bug {
            Bug::ReportsKilledAsHealthy => condition == Condition::Killed,
            Bug::ReportsSuspendedAsHealthy => condition == Condition::Paused,
            Bug::ReportsFullVolumeAsHealthy => condition == Condition::DiskFull,
            _ => false,
        };
        let condition = observed.health.problem().map(|problem| problem.condition);
        if condition.is_some_and(hides)
            || (self.has(Bug::ReportsStoppedAsHealthy) && observed.health == Health::Stopped)
        {
            observed.health = Health::Healthy;
        }
        if self.has(Bug::ReportsKilledAsStopped) && condition == Some(Condition::Killed) {
            observed.health = Health::Stopped;
        }
        if self.has(Bug::OverstatesAbilities) {
            // A datastore without configuration reports no settings.
            observed.settings = None;
        }
        if let Some(settings) = &mut observed.settings {
            match self.seeded.bug {
                Bug::NeverReportsPendingRestart => settings.restart_required.clear(),
                Bug::RollsBackSettingsSilently => settings.rejected = None,
                _ => {}
            }
        }
        observed
    }
}

#[async_trait]
impl Datastore for BuggyDatastore {
    async fn prepare(&self, cx: &Cx, spec: &Prepare) -> Result<()> {
        match self.seeded.bug {
            Bug::ReportsProgressTooLate => sleep(SILENCE).await,
            Bug::ReportsProgressBeyondTotal => cx.progress("copy", 5, Some(3), "MiB"),
            Bug::WipesDataOnSecondPrepare if self.observe(cx).await?.health == Health::Healthy => {
                self.inner.remove(&new_operation(cx)).await?;
            }
            _ => {}
        }
        self.instance_state(|state| {
            (state.spec, state.removed) = (spec.clone(), false);
            state.preparing = true;
        });
        let result = self.inner.prepare(&self.cx(cx), spec).await;
        self.instance_state(|state| state.preparing = false);
        result
    }

    async fn start(&self, cx: &Cx) -> Result<()> {
        let inner = &self.inner;
        match self.seeded.bug {
            Bug::RestartsRunningServer if inner.observe(cx).await?.health == Health::Healthy => {
                inner.stop(&new_operation(cx)).await?;
            }
            Bug::LosesDataOnStop if inner.observe(cx).await?.health == Health::Stopped => {
                return self.wipe(cx).await;
            }
            Bug::LosesSettingsOnStart => {
                let configuration = inner.abilities().configuration.expect("the reference driver has configuration");
                // Fails if there is no server.
                let _ = configuration.apply(&new_operation(cx), &Settings::new()).await;
            }
            _ => {}
        }
        match inner.start(&self.cx(cx)).await {
            Err(error) if self.has(Bug::RecreatesMissingData) && error.kind() == Kind::Corrupt => self.wipe(cx).await,
            result => result,
        }
    }

    async fn stop(&self, cx: &Cx) -> Result<()> {
        match self.seeded.bug {
            Bug::IgnoresStop => return cx.check(),
            Bug::LosesAccountsOnStop => self.drop_accounts(cx).await?,
            _ => {}
        }
        self.inner.stop(&self.cx(cx)).await
    }

    async fn remove(&self, cx: &Cx) -> Result<()> {
        if self.has(Bug::LeavesServerOnRemove) {
            return self.inner.stop(&self.cx(cx)).await;
        }
        let removed_before = self.instance_state(|state| std::mem::replace(&mut state.removed, true));
        if self.has(Bug::FailsToRemoveTwice) && removed_before {
            return Err(Error::not_found("the server was removed already"));
        }
        self.inner.remove(&self.cx(cx)).await
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        while self.has(Bug::BlocksObserveDuringPrepare) && self.instance_state(|state| state.preparing) {
            sleep(Duration::from_secs(1)).await;
        }
        if let Some(cached) = self.instance_state(|state| state.cached.clone()) {
            return Ok(cached);
        }
        let observed = self.inner.observe(&self.cx(cx)).await?;
        let condition = observed.health.problem().map(|problem| problem.condition);
        match self.seeded.bug {
            Bug::CachesHealth if observed.health == Health::Healthy => {
                self.instance_state(|state| state.cached = Some(observed.clone()));
            }
            Bug::HangsOnSuspendedServer if condition == Some(Condition::Paused) => pending().await,
            Bug::RestartsServerOnObserve if condition == Some(Condition::Killed) => {
                self.inner.start(&new_operation(cx)).await?;
            }
            _ => {}
        }
        Ok(self.distort(observed))
    }

    fn abilities(&self) -> Abilities<'_> {
        if self.has(Bug::OverstatesAbilities) {
            return Abilities::default();
        }
        let resize = (!self.without_resize).then_some(self as &dyn Resize);
        Abilities { accounts: Some(self), configuration: Some(self), upgrade: Some(self), resize }
    }
}
