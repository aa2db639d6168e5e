//! The queues and the broker logins of a guest.

use super::GuestIdentity;
use crate::{
    error::Result,
    id::InstanceId,
    rpc::{Address, BrokerEndpoint, BrokerLogin, MessageBroker},
};

/// Creates the queues of an instance's guest and authorizes its login to use them. Idempotent.
pub(crate) async fn authorize(
    broker: &dyn MessageBroker,
    instance: InstanceId,
    identity: &GuestIdentity,
) -> Result<BrokerEndpoint> {
    for address in queues(instance) {
        broker.control().create(&address).await?;
    }
    broker.authorize(instance, &identity.login).await
}

/// Revokes the logins with these numbers, then removes the queues of the instance. Idempotent.
pub(crate) async fn revoke(broker: &dyn MessageBroker, instance: InstanceId, numbers: &[u32]) -> Result<()> {
    for number in numbers {
        broker.revoke(&BrokerLogin::guest_user(instance, *number)).await?;
    }
    for address in queues(instance) {
        broker.control().remove(&address).await?;
    }
    Ok(())
}

fn queues(instance: InstanceId) -> [Address; 2] {
    [Address::guest(instance), Address::control(instance)]
}
