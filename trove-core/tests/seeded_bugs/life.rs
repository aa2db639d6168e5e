//! Bugs of a server's life, and of what is seen of it.

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
    driver::{Faulty, another},
};

/// Longer than any driver may be silent.
const LONG: Duration = Duration::from_secs(600);

impl Faulty {
    /// Begins anew with what the instance was prepared with.
    pub(crate) async fn wipe(&self, cx: &Cx) -> Result<()> {
        let spec = self.known(|known| known.spec.clone());
        self.inner.remove(&another(cx)).await?;
        self.inner.prepare(&another(cx), &spec).await
    }

    pub(crate) async fn restart(&self, cx: &Cx) -> Result<()> {
        self.inner.stop(&another(cx)).await?;
        self.inner.start(&another(cx)).await
    }

    /// What the driver makes of what it saw.
    fn told(&self, mut seen: Observed) -> Observed {
        let hides = |condition| match self.faults.bug {
            Bug::SaysHealthyWhenKilled => condition == Condition::Killed,
            Bug::SaysHealthyWhenSuspended => condition == Condition::Paused,
            Bug::SaysHealthyWhenFull => condition == Condition::DiskFull,
            _ => false,
        };
        let condition = seen.health.problem().map(|problem| problem.condition);
        if condition.is_some_and(hides) || (self.has(Bug::SaysHealthyWhenStopped) && seen.health == Health::Stopped) {
            seen.health = Health::Healthy;
        }
        if self.has(Bug::TakesAKillForAStop) && condition == Some(Condition::Killed) {
            seen.health = Health::Stopped;
        }
        if self.has(Bug::OverstatesItsAbilities) {
            // Without a configuration there is no state of the settings.
            seen.settings = None;
        }
        if let Some(settings) = &mut seen.settings {
            match self.faults.bug {
                Bug::NeverAsksForARestart => settings.restart_required.clear(),
                Bug::GivesUpSettingsInSilence => settings.rejected = None,
                _ => {}
            }
        }
        seen
    }
}

#[async_trait]
impl Datastore for Faulty {
    async fn prepare(&self, cx: &Cx, spec: &Prepare) -> Result<()> {
        match self.faults.bug {
            Bug::IsSilentForTooLong => sleep(LONG).await,
            Bug::TellsMoreThanThereIs => cx.progress("copy", 5, Some(3), "MiB"),
            Bug::WipesAtASecondPrepare if self.observe(cx).await?.health == Health::Healthy => {
                self.inner.remove(&another(cx)).await?;
            }
            _ => {}
        }
        self.known(|known| {
            (known.spec, known.removed) = (spec.clone(), false);
            known.preparing = true;
        });
        let done = self.inner.prepare(&self.cx(cx), spec).await;
        self.known(|known| known.preparing = false);
        done
    }

    async fn start(&self, cx: &Cx) -> Result<()> {
        let inner = &self.inner;
        match self.faults.bug {
            Bug::RestartsWhatRuns if inner.observe(cx).await?.health == Health::Healthy => {
                inner.stop(&another(cx)).await?;
            }
            Bug::LosesDataAtAStop if inner.observe(cx).await?.health == Health::Stopped => {
                return self.wipe(cx).await;
            }
            Bug::ForgetsSettingsAtAStart => {
                let configuration = inner.abilities().configuration.expect("the reference has settings");
                // There may be no server.
                let _ = configuration.apply(&another(cx), &Settings::new()).await;
            }
            _ => {}
        }
        match inner.start(&self.cx(cx)).await {
            Err(error) if self.has(Bug::BeginsLostDataAnew) && error.kind() == Kind::Corrupt => self.wipe(cx).await,
            done => done,
        }
    }

    async fn stop(&self, cx: &Cx) -> Result<()> {
        match self.faults.bug {
            Bug::OnlySaysThatItStopped => return cx.check(),
            Bug::ForgetsAccountsAtAStop => self.forget_accounts(cx).await?,
            _ => {}
        }
        self.inner.stop(&self.cx(cx)).await
    }

    async fn remove(&self, cx: &Cx) -> Result<()> {
        if self.has(Bug::LeavesTheServer) {
            return self.inner.stop(&self.cx(cx)).await;
        }
        let removed = self.known(|known| std::mem::replace(&mut known.removed, true));
        if self.has(Bug::CannotRemoveTwice) && removed {
            return Err(Error::not_found("there is no such server"));
        }
        self.inner.remove(&self.cx(cx)).await
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        while self.has(Bug::LooksOnlyOnceItIsPrepared) && self.known(|known| known.preparing) {
            sleep(Duration::from_secs(1)).await;
        }
        if let Some(seen) = self.known(|known| known.seen.clone()) {
            return Ok(seen);
        }
        let seen = self.inner.observe(&self.cx(cx)).await?;
        let condition = seen.health.problem().map(|problem| problem.condition);
        match self.faults.bug {
            Bug::SaysWhatItSawOnce if seen.health == Health::Healthy => {
                self.known(|known| known.seen = Some(seen.clone()));
            }
            Bug::HangsWithASuspendedServer if condition == Some(Condition::Paused) => pending().await,
            Bug::MendsWhatItLooksAt if condition == Some(Condition::Killed) => {
                self.inner.start(&another(cx)).await?;
            }
            _ => {}
        }
        Ok(self.told(seen))
    }

    fn abilities(&self) -> Abilities<'_> {
        if self.has(Bug::OverstatesItsAbilities) {
            return Abilities::default();
        }
        let resize = (!self.poor).then_some(self as &dyn Resize);
        Abilities { accounts: Some(self), configuration: Some(self), upgrade: Some(self), resize }
    }
}
