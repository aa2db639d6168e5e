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

/// How long an agent may take to begin and to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// The control plane of the agents that a platform runs elsewhere, as far as the suite needs one.
pub struct Agents {
    bus: Arc<dyn MessageBroker>,
    /// Of which datastore they have a driver, and which version of it it knows.
    pub(super) release: (String, String),
    admitted: Mutex<HashMap<InstanceId, (InstanceKey, AgentSetup)>>,
}

/// What an agent tells is not what it is tried for.
struct Deaf;

#[async_trait]
impl NotificationHandler for Deaf {
    async fn handle(&self, _text: &[u8]) {}
}

impl Agents {
    /// Those that are called over this bus, which lets them in from elsewhere, and have a driver of this datastore, which
    /// knows this version.
    pub fn over(bus: impl MessageBroker, datastore: impl Into<String>, version: impl Into<String>) -> Self {
        Self { bus: Arc::new(bus), release: (datastore.into(), version.into()), admitted: Mutex::default() }
    }

    /// What the agent of an instance is told, the same at every call.
    pub(super) async fn setup(&self, instance: &Instance) -> Result<AgentSetup> {
        // Those who ask at once get the same.
        let mut admitted = self.admitted.lock().await;
        if let Some((_, setup)) = admitted.get(&instance.id) {
            return Ok(setup.clone());
        }
        let identity = GuestIdentity::generate(instance.id, 1)?;
        let access = guest::authorize(&*self.bus, instance.id, &identity).await?;
        let setup = guest::agent_setup(instance, &identity, &access, None);
        let setup = setup.ok_or_else(|| Error::invalid("nobody can reach this bus from elsewhere"))?;
        admitted.insert(instance.id, (identity.key, setup.clone()));
        Ok(setup)
    }

    /// Waits for an answer of the agent of an instance, whatever it says: nobody else could have sealed it.
    pub(super) async fn answers(&self, instance: InstanceId) -> Result<()> {
        let known = self.admitted.lock().await.get(&instance).map(|(key, _)| key.clone());
        let key = known.ok_or_else(|| Error::not_found("the agent was told nothing"))?;
        let line = RpcClient::open(self.bus.control(), instance, key, Arc::new(Deaf), DropCounters::new()).await?;
        line.call(b"null", OnGuestRestart::Resend, ANSWER_LIMIT).await.map(drop)
    }

    /// Takes away what the agent of an instance was given.
    pub(super) async fn dismiss(&self, instance: InstanceId) -> Result<()> {
        let known = self.admitted.lock().await.get(&instance).map(|(key, _)| key.id());
        let Some(number) = known else { return Ok(()) };
        guest::revoke(&*self.bus, instance, &[number]).await?;
        self.admitted.lock().await.remove(&instance);
        Ok(())
    }
}
