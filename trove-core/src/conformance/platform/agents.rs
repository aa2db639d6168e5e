use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::Mutex;

use crate::{
    error::{Error, Result},
    guest::{self, GuestIdentity},
    id::InstanceId,
    model::Instance,
    platform::AgentSetup,
    rpc::{DropCounters, InstanceKey, MessageBroker, NotificationHandler, OnGuestRestart, RpcClient},
};

/// How long an agent may take to start and to respond.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// A minimal control plane for the remote agents of a platform under test.
pub struct Agents {
    broker: Arc<dyn MessageBroker>,
    /// The datastore that the agents have a driver for, and a version that the driver supports.
    pub(super) release: (String, String),
    authorized: Mutex<HashMap<InstanceId, (InstanceKey, AgentSetup)>>,
}

struct IgnoreNotifications;

#[async_trait]
impl NotificationHandler for IgnoreNotifications {
    async fn handle(&self, _text: &[u8]) {}
}

impl Agents {
    /// Creates a control plane for agents that are called over this broker and have a driver for
    /// this version of a datastore.
    pub fn new(broker: impl MessageBroker, datastore: impl Into<String>, version: impl Into<String>) -> Self {
        Self { broker: Arc::new(broker), release: (datastore.into(), version.into()), authorized: Mutex::default() }
    }

    /// Returns the setup of an instance's agent, the same one at every call.
    pub(super) async fn setup(&self, instance: &Instance) -> Result<AgentSetup> {
        // Locked until the end, so that concurrent callers get the same setup.
        let mut authorized = self.authorized.lock().await;
        if let Some((_, setup)) = authorized.get(&instance.id) {
            return Ok(setup.clone());
        }
        let identity = GuestIdentity::generate(instance.id, 1)?;
        let endpoint = guest::authorize(&*self.broker, instance.id, &identity).await?;
        let setup = guest::agent_setup(instance, &identity, &endpoint, None);
        let setup = setup.ok_or_else(|| Error::invalid("remote agents cannot connect to this message broker"))?;
        authorized.insert(instance.id, (identity.key, setup.clone()));
        Ok(setup)
    }

    /// Waits for a response of an instance's agent. Any response will do: only the agent can have
    /// sealed it.
    pub(super) async fn wait_for_response(&self, instance: InstanceId) -> Result<()> {
        let key = self.authorized.lock().await.get(&instance).map(|(key, _)| key.clone());
        let key = key.ok_or_else(|| Error::not_found("the agent was not set up"))?;
        let handler = Arc::new(IgnoreNotifications);
        let client = RpcClient::open(self.broker.control(), instance, key, handler, DropCounters::new()).await?;
        client.call(b"null", OnGuestRestart::Resend, RESPONSE_TIMEOUT).await.map(drop)
    }

    /// Revokes the login of an instance's agent and removes its queues.
    pub(super) async fn revoke(&self, instance: InstanceId) -> Result<()> {
        let number = self.authorized.lock().await.get(&instance).map(|(key, _)| key.id());
        let Some(number) = number else { return Ok(()) };
        guest::revoke(&*self.broker, instance, &[number]).await?;
        self.authorized.lock().await.remove(&instance);
        Ok(())
    }
}
