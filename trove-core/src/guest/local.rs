//! A guest that lives in this process.

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    agent::{Agent, Settings, Surroundings},
    desk::Desk,
    identity::{GuestIdentities, GuestIdentity},
    lifeline::Lifeline,
    notes::Notes,
};
use crate::{
    datastore::Datastore,
    error::Result,
    lifecycle,
    model::Instance,
    rpc::{BrokerEndpoint, DropCounters, KeyRing, Notifier, RpcServer},
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
        identity: GuestIdentity,
        endpoint: &BrokerEndpoint,
        settings: Settings,
        drops: DropCounters,
        lifeline: Lifeline,
    ) -> Result<Self> {
        let (notifier, stop) = (Notifier::new(), lifeline.stop.clone());
        let (keys, identities) = (KeyRing::new(identity.key.clone()), GuestIdentities::new(identity));
        let transport = endpoint.connect(identities.logins());
        let surroundings = Surroundings {
            settings,
            notifier: notifier.clone(),
            keys: keys.clone(),
            transport: transport.clone(),
            stop: stop.clone(),
        };
        let notes = Notes::of(serves(instance), instance.epoch, identities);
        let agent = Agent::spawn(instance.id, datastore, notes, surroundings);
        let desk = Arc::new(Desk(agent.clone()));
        // Without it nobody would end the agent.
        let service =
            RpcServer::new(transport, instance.id, keys, desk, notifier, drops).inspect_err(|_| stop.cancel())?;
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
