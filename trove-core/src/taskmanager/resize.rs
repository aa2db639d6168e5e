use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{ControlPlane, guest_job};
use crate::{
    error::Result,
    flow::{End, Flow, Limits, Next, StepCx},
    guest::Job,
    lifecycle::State,
    model::{Flavor, OperationStatus},
    store::InstanceChange,
};

/// Changes the flavor of an instance by one restart of its server, and restores the previous flavor
/// if the server does not start.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ResizeInstance {
    to: Flavor,
}

/// The one step of [`ResizeInstance`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum ResizeStep {
    /// Has the agent restart the server with other limits.
    Server,
}

impl ResizeInstance {
    /// Returns a change to this flavor.
    pub(crate) fn new(to: Flavor) -> Self {
        Self { to }
    }
}

#[async_trait]
impl Flow for ResizeInstance {
    const KIND: &'static str = "instance.resize/v1";
    const STEPS: &'static [ResizeStep] = &[ResizeStep::Server];
    type Step = ResizeStep;
    type Context = ControlPlane;

    fn name(_step: ResizeStep) -> &'static str {
        "server"
    }

    fn limits(_step: ResizeStep) -> Limits {
        // A server may have to flush much data before it stops.
        Limits { total_timeout: Duration::from_secs(900), tries: 3, ..Limits::default() }
    }

    async fn run(&mut self, _step: ResizeStep, cx: &mut StepCx<'_, ControlPlane>) -> Result<Next> {
        guest_job(cx, Job::Resize(self.to.clone())).await
    }

    async fn undo(&mut self, _step: ResizeStep, cx: &mut StepCx<'_, ControlPlane>) -> Result<Next> {
        // The row keeps the former flavor until the operation ends.
        let from = cx.context.instance(cx.instance).await?.flavor;
        guest_job(cx, Job::RevertResize(from)).await
    }

    fn ended(&self, end: End<'_>) -> InstanceChange {
        let failure = || end.fault("the instance could not be resized");
        match end.status {
            OperationStatus::Succeeded => {
                InstanceChange { flavor: Some(self.to.clone()), ..InstanceChange::to(State::Active) }
            }
            OperationStatus::Stuck => InstanceChange::failed(State::Error, failure(), end.at),
            _ => InstanceChange::failed(State::Active, failure(), end.at),
        }
    }
}
