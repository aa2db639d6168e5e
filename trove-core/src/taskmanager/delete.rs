use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{ControlPlane, REMOVAL, guest_job};
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
pub(crate) enum DeleteStep {
    /// Asks the agent to remove the server. It may refuse, or not answer.
    Guest,
    /// Releases the compute with all that the agent has not removed.
    Compute,
    /// Releases the endpoint.
    Endpoint,
    /// Releases the volume.
    Volume,
}

#[async_trait]
impl Flow for DeleteInstance {
    const KIND: &'static str = "instance.delete/v1";
    const STEPS: &'static [DeleteStep] =
        &[DeleteStep::Guest, DeleteStep::Compute, DeleteStep::Endpoint, DeleteStep::Volume];
    const REVERSIBLE: bool = false;
    type Step = DeleteStep;
    type Context = ControlPlane;

    fn name(step: DeleteStep) -> &'static str {
        match step {
            DeleteStep::Guest => "guest",
            DeleteStep::Compute => "compute",
            DeleteStep::Endpoint => "endpoint",
            DeleteStep::Volume => "volume",
        }
    }

    fn limits(step: DeleteStep) -> Limits {
        match step {
            DeleteStep::Guest => REMOVAL,
            // With at most 30 s between tries, a deletion survives 10 minutes without the platform.
            DeleteStep::Compute | DeleteStep::Endpoint | DeleteStep::Volume => {
                Limits { tries: 25, total_timeout: Duration::from_secs(1200), ..Limits::default() }
            }
        }
    }

    async fn run(&mut self, step: DeleteStep, cx: &mut StepCx<'_, ControlPlane>) -> Result<Next> {
        let platform = &cx.context.platform;
        match step {
            DeleteStep::Guest => {
                // An instance without an endpoint has no server.
                if cx.context.instance(cx.instance).await?.endpoint.is_some() {
                    return guest_job(cx, Job::Remove).await;
                }
            }
            DeleteStep::Compute => {
                cx.context.release_guest(cx.instance).await?;
                // A repeated deletion then skips the removal of the server.
                cx.change.endpoint = Some(None);
            }
            DeleteStep::Endpoint => platform.networks.release_endpoint(cx.instance).await?,
            DeleteStep::Volume => platform.volumes.release_volume(cx.instance).await?,
        }
        Ok(Next::Done)
    }

    async fn undo(&mut self, _step: DeleteStep, _cx: &mut StepCx<'_, ControlPlane>) -> Result<Next> {
        Ok(Next::Done)
    }

    fn ended(&self, end: End<'_>) -> InstanceChange {
        match end.status {
            OperationStatus::Succeeded => InstanceChange { remove: true, ..InstanceChange::default() },
            _ => InstanceChange::failed(State::Error, end.fault("the instance could not be deleted"), end.at),
        }
    }
}
