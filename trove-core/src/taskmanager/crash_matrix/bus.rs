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
    rpc::{Access, Bus, InProcess, Transport},
    secret::SecretString,
};

/// Who may use the bus: that outlives every control plane.
#[derive(Clone, Default)]
pub(super) struct Logins(Arc<Mutex<BTreeSet<(InstanceId, u32)>>>);

impl Logins {
    /// The numbers of an instance's.
    pub(super) fn of(&self, instance: InstanceId) -> Vec<u32> {
        self.all().iter().filter(|(owner, _)| *owner == instance).map(|(_, number)| *number).collect()
    }

    fn all(&self) -> MutexGuard<'_, BTreeSet<(InstanceId, u32)>> {
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
impl Bus for TroubledBus {
    fn control(&self) -> Arc<dyn Transport> {
        Arc::new(self.transport.clone())
    }

    async fn admit(&self, instance: InstanceId, number: u32, _password: &SecretString) -> Result<Access> {
        let arguments = (instance, number);
        let call = Call { name: "admit", changes: true, repeatable: true, arguments: &arguments };
        let admit = async || {
            self.logins.all().insert((instance, number));
            Ok(Access::InProcess(self.transport.clone()))
        };
        self.chaos.run(&call, &|| admit().boxed()).await
    }

    async fn dismiss(&self, instance: InstanceId, number: u32) -> Result<()> {
        let arguments = (instance, number);
        let call = Call { name: "dismiss", changes: true, repeatable: true, arguments: &arguments };
        let dismiss = async || {
            self.logins.all().remove(&(instance, number));
            Ok(())
        };
        self.chaos.run(&call, &|| dismiss().boxed()).await
    }
}
