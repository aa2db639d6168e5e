use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use futures_util::FutureExt;

use crate::{
    error::Result,
    id::InstanceId,
    layer::{Call, Chaos},
    rpc::{BrokerEndpoint, BrokerLogin, InProcess, MessageBroker, Transport},
};

/// Who may use the bus: that outlives every control plane.
#[derive(Clone, Default)]
pub(super) struct Logins(Arc<Mutex<BTreeSet<String>>>);

impl Logins {
    /// The numbers of an instance's.
    pub(super) fn of(&self, instance: InstanceId) -> Vec<u32> {
        let users = self.all();
        (1..10).filter(|number| users.contains(&BrokerLogin::guest_user(instance, *number))).collect()
    }

    fn all(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bus of one control plane, whose calls meet what chaos decides.
pub(super) struct TroubledBus {
    transport: InProcess,
    chaos: Chaos,
    logins: Logins,
}

impl TroubledBus {
    pub(super) fn new(chaos: Chaos, logins: Logins) -> Self {
        Self { transport: InProcess::new(), chaos, logins }
    }
}

#[async_trait]
impl MessageBroker for TroubledBus {
    fn control(&self) -> Arc<dyn Transport> {
        Arc::new(self.transport.clone())
    }

    async fn authorize(&self, _instance: InstanceId, login: &BrokerLogin) -> Result<BrokerEndpoint> {
        let user = &login.user;
        let call = Call { name: "authorize", changes: true, repeatable: true, arguments: user };
        let authorize = async || {
            self.logins.all().insert(user.clone());
            Ok(BrokerEndpoint::InProcess(self.transport.clone()))
        };
        self.chaos.run(&call, &|| authorize().boxed()).await
    }

    async fn revoke(&self, user: &str) -> Result<()> {
        let call = Call { name: "revoke", changes: true, repeatable: true, arguments: &user };
        let revoke = async || {
            self.logins.all().remove(user);
            Ok(())
        };
        self.chaos.run(&call, &|| revoke().boxed()).await
    }
}
