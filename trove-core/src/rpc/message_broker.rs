use std::sync::Arc;

use async_trait::async_trait;

use super::{BrokerLogin, InProcess, Transport};
use crate::{error::Result, id::InstanceId};

/// The message broker between the control plane and its guests, and the administration of its
/// logins.
///
/// Implemented by [`InProcess`], which needs no logins, and by `RabbitMq` (feature `amqp-management`).
#[async_trait]
pub trait MessageBroker: Send + Sync + 'static {
    /// Returns the transport that the control plane uses.
    fn control(&self) -> Arc<dyn Transport>;

    /// Creates the login of a guest, restricted to the queues of its instance, and returns the
    /// endpoint to which the guest connects. If the user exists, its password is replaced.
    async fn authorize(&self, instance: InstanceId, login: &BrokerLogin) -> Result<BrokerEndpoint>;

    /// Deletes the login of a guest and closes its connections. Deleting an absent login is `Ok`.
    async fn revoke(&self, user: &str) -> Result<()>;
}

/// The endpoint of a message broker to which guests connect.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BrokerEndpoint {
    /// Queues in this process.
    InProcess(InProcess),
    /// A RabbitMQ broker.
    #[cfg(feature = "amqp")]
    Amqp(super::Broker),
}

impl BrokerEndpoint {
    /// Returns the transport of a guest with these logins, as for [`Transport::set_logins`].
    #[cfg_attr(not(feature = "amqp"), expect(unused_variables, reason = "queues in this process need no login"))]
    pub fn connect(&self, logins: Vec<BrokerLogin>) -> Arc<dyn Transport> {
        match self {
            Self::InProcess(transport) => Arc::new(transport.clone()),
            #[cfg(feature = "amqp")]
            Self::Amqp(broker) => Arc::new(super::Amqp::with_logins(broker.clone(), logins)),
        }
    }
}

#[async_trait]
impl MessageBroker for InProcess {
    fn control(&self) -> Arc<dyn Transport> {
        Arc::new(self.clone())
    }

    async fn authorize(&self, _instance: InstanceId, _login: &BrokerLogin) -> Result<BrokerEndpoint> {
        Ok(BrokerEndpoint::InProcess(self.clone()))
    }

    async fn revoke(&self, _user: &str) -> Result<()> {
        Ok(())
    }
}
