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
    store::InstanceChange,
};

/// Deletes an instance with all its resources, in whatever state it is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DeleteInstance {}

/// A step of [`DeleteInstance`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Has the agent remove the server.
    Guest,
    /// Releases the compute.
    Compute,
    /// Releases the endpoint.
    Endpoint,
    /// Releases the volume.
    Volume,
}

#[async_trait]
impl Flow for DeleteInstance {
    const KIND: &'static str = "instance.delete/v1";
    const STEPS: &'static [Step] = &[Step::Guest, Step::Compute, Step::Endpoint, Step::Volume];
    const REVERSIBLE: bool = false;
    type Step = Step;
    type Context = ControlPlane;

    fn name(step: Step) -> &'static str {
        match step {
            Step::Guest => "guest",
            Step::Compute => "compute",
            Step::Endpoint => "endpoint",
            Step::Volume => "volume",
        }
    }

    fn limits(_step: Step) -> Limits {
        // With at most 30 s between tries, a deletion survives 10 minutes without the platform.
        Limits { tries: 25, total_timeout: Duration::from_secs(1200), ..Limits::default() }
    }

    async fn run(&mut self, step: Step, cx: &mut StepCx<'_, ControlPlane>) -> Result<Next> {
        let platform = &cx.context.platform;
        match step {
            Step::Guest => {
                // An instance without an endpoint has no server.
                if cx.context.instance(cx.instance).await?.endpoint.is_some() {
                    return guest_job(cx, Job::Remove).await;
                }
            }
            Step::Compute => {
                cx.context.release_guest(cx.instance).await?;
                // A repeated deletion then skips the removal of the server.
                cx.change.endpoint = Some(None);
            }
            Step::Endpoint => platform.networks.release_endpoint(cx.instance).await?,
            Step::Volume => platform.volumes.release_volume(cx.instance).await?,
        }
        Ok(Next::Done)
    }

    async fn undo(&mut self, _step: Step, _cx: &mut StepCx<'_, ControlPlane>) -> Result<Next> {
        Ok(Next::Done)
    }

    fn ended(&self, end: End<'_>) -> InstanceChange {
        match end.status {
            OperationStatus::Succeeded => InstanceChange { remove: true, ..InstanceChange::default() },
            _ => InstanceChange::failed(State::Error, end.fault("the instance could not be deleted"), end.at),
        }
    }
}
