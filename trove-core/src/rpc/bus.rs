use std::{fmt, sync::Arc};

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
    /// The guest's way to its mailboxes.
    pub fn enter(&self) -> Entrance {
        match self {
            Self::InProcess(transport) => Entrance(Way::InProcess(transport.clone())),
            #[cfg(feature = "amqp")]
            Self::Amqp { broker, login } => Entrance(Way::Amqp(super::Amqp::new(broker.clone(), login.clone()))),
        }
    }

    /// Who the guest is to the bus; `None` where that does not ask.
    pub fn login(&self) -> Option<BusLogin> {
        match self {
            Self::InProcess(_) => None,
            #[cfg(feature = "amqp")]
            Self::Amqp { login, .. } => Some(BusLogin { user: login.user.clone(), password: login.password.clone() }),
        }
    }
}

/// Who a guest is to its bus.
#[derive(Clone)]
pub struct BusLogin {
    /// The user's name.
    pub user: String,
    /// And password.
    pub password: SecretString,
}

impl fmt::Debug for BusLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BusLogin").field("user", &self.user).finish_non_exhaustive()
    }
}

/// The way to a guest's mailboxes, which stays the same when its login changes. Clones are the same one.
#[derive(Clone)]
pub struct Entrance(Way);

#[derive(Clone)]
enum Way {
    InProcess(InProcess),
    #[cfg(feature = "amqp")]
    Amqp(super::Amqp),
}

impl Entrance {
    /// The transport as the guest has it.
    pub fn transport(&self) -> Arc<dyn Transport> {
        match &self.0 {
            Way::InProcess(transport) => Arc::new(transport.clone()),
            #[cfg(feature = "amqp")]
            Way::Amqp(transport) => Arc::new(transport.clone()),
        }
    }

    /// Uses these logins from the next connection on: the last, or where it is refused the one before it. No effect where
    /// the bus asks for none.
    pub fn log_in_as(&self, logins: Vec<BusLogin>) {
        match &self.0 {
            Way::InProcess(_) => drop(logins),
            #[cfg(feature = "amqp")]
            Way::Amqp(transport) => {
                let logins = logins.into_iter().map(|BusLogin { user, password }| super::Login { user, password });
                transport.log_in_as(logins.collect());
            }
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
