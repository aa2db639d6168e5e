use std::sync::Arc;

use async_trait::async_trait;

use super::{InProcess, Transport};
use crate::{error::Result, id::InstanceId, secret::SecretString};

/// What the control plane and its guests send over, and who may use it as which guest.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// The transport as the control plane has it.
    fn control(&self) -> Arc<dyn Transport>;

    /// Lets a guest use its mailboxes, and those only, with this password. Each number stands for a login of its own; one
    /// that exists is given this password.
    async fn admit(&self, instance: InstanceId, number: u32, password: &SecretString) -> Result<Access>;

    /// Takes a login away. One that is absent is `Ok`.
    async fn dismiss(&self, instance: InstanceId, number: u32) -> Result<()>;
}

/// How a guest gets to its mailboxes.
#[derive(Clone)]
#[non_exhaustive]
pub enum Access {
    /// In this process.
    InProcess(InProcess),
    /// Over a broker.
    #[cfg(feature = "amqp")]
    Amqp {
        /// The broker.
        broker: super::Broker,
        /// Who the guest is there.
        login: super::Login,
    },
}

impl Access {
    /// The transport as the guest has it.
    pub fn transport(&self) -> Arc<dyn Transport> {
        match self {
            Self::InProcess(transport) => Arc::new(transport.clone()),
            #[cfg(feature = "amqp")]
            Self::Amqp { broker, login } => Arc::new(super::Amqp::new(broker.clone(), login.clone())),
        }
    }
}

#[async_trait]
impl Bus for InProcess {
    fn control(&self) -> Arc<dyn Transport> {
        Arc::new(self.clone())
    }

    async fn admit(&self, _instance: InstanceId, _number: u32, _password: &SecretString) -> Result<Access> {
        Ok(Access::InProcess(self.clone()))
    }

    async fn dismiss(&self, _instance: InstanceId, _number: u32) -> Result<()> {
        Ok(())
    }
}
