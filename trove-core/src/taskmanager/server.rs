//! Restart, stop and start: one job of the guest each.

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
    store::InstanceChange,
};

/// The one step of these flows.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Have the agent change the server.
    Server,
}

/// Defines a flow that has the guest do one thing, and perhaps another to take it back.
macro_rules! server_flow {
    (
        $(#[$doc:meta])* $flow:ident $kind:literal does $work:ident, back by $back:expr,
        to $done:ident or $before:ident, failing as $failure:literal
    ) => {
        $(#[$doc])*
        #[derive(Debug, Serialize, Deserialize)]
        pub struct $flow {}

        #[async_trait]
        impl Flow for $flow {
            const KIND: &'static str = $kind;
            const STEPS: &'static [Step] = &[Step::Server];
            type Step = Step;
            type Context = ControlPlane;

            fn name(_step: Step) -> &'static str {
                "server"
            }

            fn limits(_step: Step) -> Limits {
                // A server that crashed may have much to recover.
                Limits { patience: Duration::from_secs(900), tries: 4, ..Limits::default() }
            }

            async fn run(&mut self, _step: Step, cx: &mut StepCx<'_, ControlPlane>) -> Result<Next> {
                guest_job(cx, Work::$work).await
            }

            async fn undo(&mut self, _step: Step, cx: &mut StepCx<'_, ControlPlane>) -> Result<Next> {
                let back: Option<Work> = $back;
                match back {
                    Some(work) => guest_job(cx, work).await,
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
    /// Restarts the server of an instance. Where it does not come up, the agent goes on trying.
    RestartServer "instance.restart/v1" does Restart, back by None,
    to Active or Active, failing as "the server could not be restarted"
}

server_flow! {
    /// Stops the server of an instance.
    StopServer "instance.stop/v1" does Stop, back by Some(Work::Start),
    to Stopped or Active, failing as "the server could not be stopped"
}

server_flow! {
    /// Starts the server of a stopped instance.
    StartServer "instance.start/v1" does Start, back by Some(Work::Stop),
    to Active or Stopped, failing as "the server could not be started"
}
