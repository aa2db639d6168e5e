use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{ControlPlane, guest_job};
use crate::{
    error::Result,
    flow::{End, Flow, Limits, Next, StepCx},
    guest::Work,
    lifecycle::State,
    model::OperationStatus,
    store::{InstanceChange, InstanceRelease},
};

/// Runs an instance's data with another release; brings the one before back where the new one does not come up.
#[derive(Debug, Serialize, Deserialize)]
pub struct UpgradeInstance {
    to: InstanceRelease,
    /// True once the new release serves: from then on there is no way back.
    committed: bool,
}

/// A step of [`UpgradeInstance`].
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Have the agent fetch the image and refuse what cannot be.
    Check,
    /// Have the agent stop the server and start the new one on its data.
    Server,
    /// Have the agent drop what only a way back would need.
    Conclude,
}

impl UpgradeInstance {
    /// A change to this release.
    pub fn new(to: InstanceRelease) -> Self {
        Self { to, committed: false }
    }
}

#[async_trait]
impl Flow for UpgradeInstance {
    const KIND: &'static str = "instance.upgrade/v1";
    const STEPS: &'static [Step] = &[Step::Check, Step::Server, Step::Conclude];
    type Step = Step;
    type Context = ControlPlane;

    fn name(step: Step) -> &'static str {
        match step {
            Step::Check => "check",
            Step::Server => "server",
            Step::Conclude => "conclude",
        }
    }

    fn limits(step: Step) -> Limits {
        match step {
            // An image may have to be fetched.
            Step::Check => Limits { patience: Duration::from_secs(1800), tries: 4, ..Limits::default() },
            // All data may have to be copied, and then changed.
            Step::Server => Limits { patience: Duration::from_secs(6 * 3600), tries: 3, ..Limits::default() },
            Step::Conclude => Limits::default(),
        }
    }

    async fn run(&mut self, step: Step, cx: &mut StepCx<'_, ControlPlane>) -> Result<Next> {
        match step {
            Step::Check => guest_job(cx, Work::CheckUpgrade(cx.context.release(cx.instance, &self.to).await?)).await,
            Step::Server => {
                let next = guest_job(cx, Work::Upgrade(cx.context.release(cx.instance, &self.to).await?)).await?;
                // Journalled with the end of this step, before anything is dropped.
                self.committed = next == Next::Done;
                Ok(next)
            }
            Step::Conclude => match guest_job(cx, Work::ConcludeUpgrade).await {
                Err(error) if !error.is_transient() => {
                    // It serves. What is left takes room until the next upgrade or the deletion.
                    tracing::warn!(instance = %cx.instance, error = error.report(), "a safety copy may be left");
                    Ok(Next::Done)
                }
                done => done,
            },
        }
    }

    async fn undo(&mut self, step: Step, cx: &mut StepCx<'_, ControlPlane>) -> Result<Next> {
        match step {
            Step::Server if !self.committed => {
                // The row says what the instance was until the operation ends.
                let from = InstanceRelease::from(&cx.context.instance(cx.instance).await?);
                guest_job(cx, Work::RevertUpgrade(cx.context.release(cx.instance, &from).await?)).await
            }
            Step::Check if !self.committed => guest_job(cx, Work::KeepRunning).await,
            Step::Server | Step::Check | Step::Conclude => Ok(Next::Done),
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
