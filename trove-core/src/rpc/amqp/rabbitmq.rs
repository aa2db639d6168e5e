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
    /// The address at which guests connect.
    guest_broker: Broker,
    control: Amqp,
    management: Management,
}

impl RabbitMq {
    /// Creates a message broker from its address, the login of the control plane and its management
    /// API. Must be called within a Tokio runtime.
    pub fn new(broker: Broker, control: BrokerLogin, management: Management) -> Self {
        broker.warn_without_tls();
        management.warn_without_tls();
        let guest_broker = broker.clone();
        Self { control: Amqp::new(broker, control), guest_broker, management }
    }

    /// Sets the address at which guests connect to the broker, if it is another one on their network.
    /// The default is the address of the control plane. A remote agent reads the address when it
    /// starts.
    #[must_use]
    pub fn guest_broker(self, broker: Broker) -> Self {
        broker.warn_without_tls();
        Self { guest_broker: broker, ..self }
    }
}

#[async_trait]
impl MessageBroker for RabbitMq {
    fn control(&self) -> Arc<dyn Transport> {
        Arc::new(self.control.clone())
    }

    async fn authorize(&self, instance: InstanceId, login: &BrokerLogin) -> Result<BrokerEndpoint> {
        self.management.ensure_guest(instance, login).await?;
        Ok(BrokerEndpoint::Amqp(self.guest_broker.clone()))
    }

    async fn revoke(&self, user: &str) -> Result<()> {
        self.management.remove_user(user).await
    }
}
