use std::ops::Deref;

use super::{Accounts, ConnectionUri, OperationHandle, Trove};
use crate::{
    error::{Error, Result},
    lifecycle::Action,
    model::Instance,
};

/// An instance as it was when the handle was made or last [refreshed](Self::refresh), and what can be done with it.
///
/// It dereferences to the [`Instance`].
#[derive(Clone)]
pub struct InstanceHandle {
    trove: Trove,
    instance: Instance,
}

impl InstanceHandle {
    pub(super) fn new(trove: Trove, instance: Instance) -> Self {
        Self { trove, instance }
    }

    /// Reads the instance anew; [`NotFound`](crate::error::Kind::NotFound) where it is gone.
    pub async fn refresh(&mut self) -> Result<&Instance> {
        self.instance = self.trove.read(self.instance.id).await?;
        Ok(&self.instance)
    }

    /// Where a client connects to one of its databases. Holds no password.
    ///
    /// [`Conflict`](crate::error::Kind::Conflict) while it has no address.
    pub fn uri(&self, database: &str) -> Result<ConnectionUri> {
        let endpoint = self.instance.endpoint.clone();
        let endpoint = endpoint.ok_or_else(|| Error::conflict("the instance has no address yet"))?;
        let manifest = self.trove.datastores().iter().find(|manifest| manifest.name == self.instance.datastore);
        let scheme = manifest.map_or(self.instance.datastore.as_str(), |manifest| manifest.uri_scheme.as_str());
        Ok(ConnectionUri::new(scheme, endpoint, database))
    }

    /// Its databases, users, rights and root.
    pub fn accounts(&self) -> Accounts {
        Accounts::new(self.trove.clone(), self.instance.id)
    }

    /// Restarts its server.
    pub async fn restart(&self) -> Result<OperationHandle> {
        self.trove.begin(self.instance.id, Action::Restart).await
    }

    /// Stops its server; it stays so until it is started.
    pub async fn stop(&self) -> Result<OperationHandle> {
        self.trove.begin(self.instance.id, Action::Stop).await
    }

    /// Starts its stopped server.
    pub async fn start(&self) -> Result<OperationHandle> {
        self.trove.begin(self.instance.id, Action::Start).await
    }

    /// Removes it with all its data, whatever it is doing; what runs on it ends first.
    pub async fn delete(&self) -> Result<OperationHandle> {
        self.trove.begin(self.instance.id, Action::Delete).await
    }
}

impl Deref for InstanceHandle {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        &self.instance
    }
}
