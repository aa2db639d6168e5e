//! Restart, stop and start: one guest job each.

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

/// The one step of these flows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ServerStep {
    /// Has the agent change the server.
    Server,
}

/// Defines a flow that runs one guest job, and optionally another one to undo it.
macro_rules! server_flow {
    (
        $(#[$doc:meta])* $flow:ident $kind:literal runs $job:ident, undone by $undo:expr,
        to $done:ident or $before:ident, failing as $failure:literal
    ) => {
        $(#[$doc])*
        #[derive(Debug, Serialize, Deserialize)]
        pub(crate) struct $flow {}

        #[async_trait]
        impl Flow for $flow {
            const KIND: &'static str = $kind;
            const STEPS: &'static [ServerStep] = &[ServerStep::Server];
            type Step = ServerStep;
            type Context = ControlPlane;

            fn name(_step: ServerStep) -> &'static str {
                "server"
            }

            fn limits(_step: ServerStep) -> Limits {
                // A server that crashed may have to recover much data.
                Limits { total_timeout: Duration::from_secs(900), tries: 4, ..Limits::default() }
            }

            async fn run(&mut self, _step: ServerStep, cx: &mut StepCx<'_, ControlPlane>) -> Result<Next> {
                guest_job(cx, Job::$job).await
            }

            async fn undo(&mut self, _step: ServerStep, cx: &mut StepCx<'_, ControlPlane>) -> Result<Next> {
                let undo: Option<Job> = $undo;
                match undo {
                    Some(job) => guest_job(cx, job).await,
                    None => Ok(Next::Done),
                }
            }

            fn ended(&self, end: End<'_>) -> InstanceChange {
                match end.status {
                    OperationStatus::Succeeded => InstanceChange::to(State::$done),
                    OperationStatus::Stuck => InstanceChange::failed(State::Error, end.fault($failure), end.at),
                    _ => InstanceChange::failed(State::$before, end.fault($failure), end.at),
                }
            }
        }
    };
}

server_flow! {
    /// Restarts the server of an instance. If the server does not start, the agent keeps restarting it.
    RestartServer "instance.restart/v1" runs Restart, undone by None,
    to Active or Active, failing as "the server could not be restarted"
}

server_flow! {
    /// Stops the server of an instance.
    StopServer "instance.stop/v1" runs Stop, undone by Some(Job::Start),
    to Stopped or Active, failing as "the server could not be stopped"
}

server_flow! {
    /// Starts the server of a stopped instance.
    StartServer "instance.start/v1" runs Start, undone by Some(Job::Stop),
    to Active or Stopped, failing as "the server could not be started"
}
