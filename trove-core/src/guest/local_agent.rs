//! An agent in the process of the control plane.

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    agent::{Agent, AgentContext, AgentSettings},
    agent_state::AgentStateStore,
    identity::{GuestIdentities, GuestIdentity},
    request_handler::GuestRequestHandler,
};
use crate::{
    datastore::Datastore,
    error::Result,
    lifecycle,
    model::Instance,
    rpc::{BrokerEndpoint, DropCounters, KeyRing, Notifier, RpcServer},
};

/// Returns whether the server of an instance should run (`true`) or be stopped (`false`); `None`
/// while the instance is being created or deleted.
pub(super) fn should_run(instance: &Instance) -> Option<bool> {
    match instance.state {
        lifecycle::State::Stopped | lifecycle::State::Stopping => Some(false),
        state => lifecycle::should_serve(state).then_some(true),
    }
}

/// How a [`LocalAgent`] is connected to its control plane.
pub(crate) struct LocalConnection<'a> {
    pub(crate) identity: GuestIdentity,
    pub(crate) endpoint: &'a BrokerEndpoint,
    pub(crate) drops: DropCounters,
    /// Stops the agent.
    pub(crate) stop: CancellationToken,
}

/// An agent and the RPC server through which the control plane calls it.
pub(crate) struct LocalAgent {
    agent: Arc<Agent>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl LocalAgent {
    /// Starts the agent of an instance. `on_disconnect` runs if the agent can no longer be reached.
    pub(crate) fn start(
        instance: &Instance,
        datastore: Arc<dyn Datastore>,
        settings: AgentSettings,
        connection: LocalConnection<'_>,
        on_disconnect: impl FnOnce() + Send + 'static,
    ) -> Result<Self> {
        let LocalConnection { identity, endpoint, drops, stop } = connection;
        let notifier = Notifier::new();
        let (keys, identities) = (KeyRing::new(identity.key.clone()), GuestIdentities::new(identity));
        let transport = endpoint.connect(identities.logins());
        let context = AgentContext {
            settings,
            notifier: notifier.clone(),
            keys: keys.clone(),
            transport: transport.clone(),
            stop: stop.clone(),
        };
        let state = AgentStateStore::in_memory(should_run(instance), instance.epoch, identities);
        let agent = Agent::spawn(instance.id, datastore, state, context);
        let handler = Arc::new(GuestRequestHandler(agent.clone()));
        let server = RpcServer::new(transport, instance.id, keys, handler, notifier, drops)
            // Nothing else would stop the agent.
            .inspect_err(|_| stop.cancel())?;
        let (id, tasks) = (instance.id, TaskTracker::new());
        let server_stop = stop.clone();
        tasks.spawn(async move {
            if let Err(error) = server.run(server_stop).await {
                tracing::error!(instance = %id, error = error.report(), "local agent lost its control plane");
                on_disconnect();
            }
        });
        Ok(Self { agent, stop, tasks })
    }

    /// Cancels running jobs and awaits their end. The server keeps running.
    pub(crate) async fn shut_down(&self) {
        self.stop.cancel();
        self.agent.shut_down().await;
        self.tasks.close();
        self.tasks.wait().await;
    }
}
