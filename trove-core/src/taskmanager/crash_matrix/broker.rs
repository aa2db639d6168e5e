use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use futures_util::FutureExt;
use parking_lot::{Mutex, MutexGuard};

use crate::{
    error::Result,
    id::InstanceId,
    layer::{CallInfo, FaultInjector},
    rpc::{BrokerEndpoint, BrokerLogin, InProcess, MessageBroker, Transport},
};

/// The users of a broker. They outlive every control plane.
#[derive(Clone, Default)]
pub(super) struct BrokerUsers(Arc<Mutex<BTreeSet<String>>>);

impl BrokerUsers {
    /// Returns the numbers of the users of an instance.
    pub(super) fn of(&self, instance: InstanceId) -> Vec<u32> {
        let users = self.all();
        (1..10).filter(|number| users.contains(&BrokerLogin::guest_user(instance, *number))).collect()
    }

    fn all(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock()
    }
}

/// The broker of one control plane, whose calls are subject to fault injection.
pub(super) struct FaultInjectingBroker {
    transport: InProcess,
    injector: FaultInjector,
    users: BrokerUsers,
}

impl FaultInjectingBroker {
    pub(super) fn new(injector: FaultInjector, users: BrokerUsers) -> Self {
        Self { transport: InProcess::new(), injector, users }
    }
}

#[async_trait]
impl MessageBroker for FaultInjectingBroker {
    fn control(&self) -> Arc<dyn Transport> {
        Arc::new(self.transport.clone())
    }

    async fn authorize(&self, _instance: InstanceId, login: &BrokerLogin) -> Result<BrokerEndpoint> {
        let user = &login.user;
        let call = CallInfo { name: "authorize", changes: true, arguments: user };
        let authorize = async || {
            self.users.all().insert(user.clone());
            Ok(BrokerEndpoint::InProcess(self.transport.clone()))
        };
        self.injector.run(&call, &|| authorize().boxed()).await
    }

    async fn revoke(&self, user: &str) -> Result<()> {
        let call = CallInfo { name: "revoke", changes: true, arguments: &user };
        let revoke = async || {
            self.users.all().remove(user);
            Ok(())
        };
        self.injector.run(&call, &|| revoke().boxed()).await
    }
}
