//! A guest that lives in this process.

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    agent::{Agent, Settings, Surroundings},
    credentials::{Credentials, Standing, Wallet},
    desk::Desk,
    lifeline::Lifeline,
    notes::Notes,
};
use crate::{
    datastore::Datastore,
    error::Result,
    lifecycle,
    model::Instance,
    rpc::{Access, InstanceKey, Refusals, Service, Teller},
};

/// Whether an instance's server should run, or be stopped; `None` where it is being made or removed.
pub(super) fn serves(instance: &Instance) -> Option<bool> {
    match instance.state {
        lifecycle::State::Stopped | lifecycle::State::Stopping => Some(false),
        state => lifecycle::should_serve(state).then_some(true),
    }
}

/// An agent and its service to the control plane.
pub(super) struct LocalGuest {
    agent: Arc<Agent>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl LocalGuest {
    pub(super) fn begin(
        instance: &Instance,
        datastore: Arc<dyn Datastore>,
        key: InstanceKey,
        access: &Access,
        settings: Settings,
        refusals: Refusals,
        lifeline: Lifeline,
    ) -> Result<Self> {
        let (teller, stop) = (Teller::new(), lifeline.stop.clone());
        let wallet = Wallet::of(Credentials::new(key, access));
        let standing = Standing::new(access, &wallet);
        let (keys, transport) = (standing.keys.clone(), standing.entrance.transport());
        let surroundings = Surroundings { settings, teller: teller.clone(), standing, stop: stop.clone() };
        let notes = Notes::of(serves(instance), instance.epoch, wallet);
        let agent = Agent::spawn(instance.id, datastore, notes, surroundings);
        let desk = Arc::new(Desk(agent.clone()));
        // Without it nobody would end the agent.
        let service =
            Service::new(transport, instance.id, keys, desk, teller, refusals).inspect_err(|_| stop.cancel())?;
        let (id, tasks) = (instance.id, TaskTracker::new());
        let served = stop.clone();
        tasks.spawn(async move {
            if let Err(error) = service.run(served).await {
                tracing::error!(instance = %id, error = error.report(), "the guest is cut off from its control plane");
                lifeline.cut();
            }
        });
        Ok(Self { agent, stop, tasks })
    }

    /// Lets running work know, and awaits it. The server goes on.
    pub(super) async fn end(&self) {
        self.stop.cancel();
        self.agent.shut_down().await;
        self.tasks.close();
        self.tasks.wait().await;
    }
}
