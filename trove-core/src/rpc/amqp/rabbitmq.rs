use std::sync::Arc;

use async_trait::async_trait;

use super::{Amqp, Broker, Management};
use crate::{
    error::Result,
    id::InstanceId,
    rpc::{BrokerEndpoint, BrokerLogin, MessageBroker, Transport},
};

/// A RabbitMQ broker as the [`MessageBroker`]: each guest has a user of its own there.
///
/// ```no_run
/// # async fn example() -> trove_core::error::Result<()> {
/// use trove_core::{
///     control::Trove,
///     rpc::{Broker, BrokerLogin, Management, RabbitMq},
/// };
///
/// let login = BrokerLogin::new("trove", "password");
/// let management = Management::new("http://rabbit.example:15672", "/", login.clone())?;
/// let broker = RabbitMq::new(Broker::at("rabbit.example"), login, management);
/// let trove = Trove::builder().message_broker(broker);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RabbitMq {
    broker: Broker,
    control: Amqp,
    management: Management,
}

impl RabbitMq {
    /// Creates a message broker from its address, the login of the control plane and its management
    /// API. Must be called within a Tokio runtime.
    pub fn new(broker: Broker, control: BrokerLogin, management: Management) -> Self {
        Self { control: Amqp::new(broker.clone(), control), broker, management }
    }
}

#[async_trait]
impl MessageBroker for RabbitMq {
    fn control(&self) -> Arc<dyn Transport> {
        Arc::new(self.control.clone())
    }

    async fn authorize(&self, instance: InstanceId, login: &BrokerLogin) -> Result<BrokerEndpoint> {
        self.management.ensure_guest(instance, login).await?;
        Ok(BrokerEndpoint::Amqp(self.broker.clone()))
    }

    async fn revoke(&self, user: &str) -> Result<()> {
        self.management.remove_user(user).await
    }
}
