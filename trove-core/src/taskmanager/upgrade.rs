use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{ControlPlane, guest_job};
use crate::{
    error::Result,
    flow::{End, Flow, Limits, Next, StepCx},
    guest::Job,
    lifecycle::State,
    model::OperationStatus,
    store::{InstanceChange, InstanceRelease},
};

/// Upgrades an instance to another release, and returns to the previous one if the new one does not
/// start.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UpgradeInstance {
    to: InstanceRelease,
    /// True once the new release serves. From then on the upgrade cannot be undone.
    committed: bool,
}

/// A step of [`UpgradeInstance`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum UpgradeStep {
    /// Has the agent pull the image and validate the upgrade.
    Check,
    /// Has the agent stop the server and start the new release on its data.
    Server,
    /// Has the agent remove the data that only a return to the previous release would need.
    Commit,
}

impl UpgradeInstance {
    /// Returns an upgrade to this release.
    pub(crate) fn new(to: InstanceRelease) -> Self {
        Self { to, committed: false }
    }
}

#[async_trait]
impl Flow for UpgradeInstance {
    const KIND: &'static str = "instance.upgrade/v1";
    const STEPS: &'static [UpgradeStep] = &[UpgradeStep::Check, UpgradeStep::Server, UpgradeStep::Commit];
    type Step = UpgradeStep;
    type Context = ControlPlane;

    fn name(step: UpgradeStep) -> &'static str {
        match step {
            UpgradeStep::Check => "check",
            UpgradeStep::Server => "server",
            UpgradeStep::Commit => "commit",
        }
    }

    fn limits(step: UpgradeStep) -> Limits {
        match step {
            // The image may have to be pulled.
            UpgradeStep::Check => Limits { total_timeout: Duration::from_secs(1800), tries: 4, ..Limits::default() },
            // All data may have to be copied and then converted.
            UpgradeStep::Server => {
                Limits { total_timeout: Duration::from_secs(6 * 3600), tries: 3, ..Limits::default() }
            }
            UpgradeStep::Commit => Limits::default(),
        }
    }

    async fn run(&mut self, step: UpgradeStep, cx: &mut StepCx<'_, ControlPlane>) -> Result<Next> {
        match step {
            UpgradeStep::Check => {
                guest_job(cx, Job::CheckUpgrade(cx.context.release(cx.instance, &self.to).await?)).await
            }
            UpgradeStep::Server => {
                let next = guest_job(cx, Job::Upgrade(cx.context.release(cx.instance, &self.to).await?)).await?;
                // Journaled with the end of this step, before anything is removed.
                self.committed = next == Next::Done;
                Ok(next)
            }
            UpgradeStep::Commit => match guest_job(cx, Job::CommitUpgrade).await {
                Err(error) if !error.is_transient() => {
                    // The new release serves. Leftovers use space until the next upgrade or the deletion.
                    tracing::warn!(instance = %cx.instance, error = error.report(), "failed to remove the data of the previous release");
                    Ok(Next::Done)
                }
                done => done,
            },
        }
    }

    async fn undo(&mut self, step: UpgradeStep, cx: &mut StepCx<'_, ControlPlane>) -> Result<Next> {
        match step {
            UpgradeStep::Server if !self.committed => {
                // The row keeps the former release until the operation ends.
                let from = InstanceRelease::from(&cx.context.instance(cx.instance).await?);
                guest_job(cx, Job::RevertUpgrade(cx.context.release(cx.instance, &from).await?)).await
            }
            UpgradeStep::Check if !self.committed => guest_job(cx, Job::KeepRunning).await,
            UpgradeStep::Server | UpgradeStep::Check | UpgradeStep::Commit => Ok(Next::Done),
        }
    }

    fn ended(&self, end: End<'_>) -> InstanceChange {
        let failure = || end.fault("the instance could not be upgraded");
        let change = match end.status {
            OperationStatus::Stuck => InstanceChange::failed(State::Error, failure(), end.at),
            _ if self.committed => InstanceChange::to(State::Active),
            _ => InstanceChange::failed(State::Active, failure(), end.at),
        };
        InstanceChange { release: self.committed.then(|| self.to.clone()), ..change }
    }
}
