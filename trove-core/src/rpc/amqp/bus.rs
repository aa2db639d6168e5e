use std::sync::Arc;

use async_trait::async_trait;

use super::{Amqp, Broker, Login, Management};
use crate::{
    error::Result,
    id::InstanceId,
    rpc::{Access, Bus, Transport},
    secret::SecretString,
};

/// A RabbitMQ broker as the [`Bus`]: each guest has a user of its own there.
#[derive(Clone)]
pub struct RabbitMq {
    broker: Broker,
    control: Amqp,
    management: Management,
}

impl RabbitMq {
    /// The broker, as the control plane logs in to it, and its management. There must be a tokio runtime.
    pub fn new(broker: Broker, control: Login, management: Management) -> Self {
        Self { control: Amqp::new(broker.clone(), control), broker, management }
    }
}

#[async_trait]
impl Bus for RabbitMq {
    fn control(&self) -> Arc<dyn Transport> {
        Arc::new(self.control.clone())
    }

    async fn admit(&self, instance: InstanceId, number: u32, password: &SecretString) -> Result<Access> {
        let login = self.management.ensure_guest(instance, number, password.clone()).await?;
        Ok(Access::Amqp { broker: self.broker.clone(), login })
    }

    async fn dismiss(&self, instance: InstanceId, number: u32) -> Result<()> {
        self.management.remove_guest(instance, number).await
    }
}
