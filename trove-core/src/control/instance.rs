use std::ops::Deref;

use super::{
    Accounts, ConnectionUri, OperationHandle, Trove,
    new_instance::{check_memory, find_flavor},
};
use crate::{
    datastore::no_databases,
    error::{Error, Result},
    flow::Flow,
    id::{ConfigurationId, OperationId},
    lifecycle::Action,
    model::Instance,
    store::InstanceRelease,
    taskmanager::{
        DeleteInstance, ResizeInstance, RestartServer, RotateIdentity, StartServer, StopServer, UpgradeInstance,
    },
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

    /// Where a client connects to one of its databases, or with `None` to the server. Holds no password.
    ///
    /// [`Conflict`](crate::error::Kind::Conflict) while it has no address,
    /// [`Unsupported`](crate::error::Kind::Unsupported) for a database where there are none.
    pub fn uri<'a>(&self, database: impl Into<Option<&'a str>>) -> Result<ConnectionUri> {
        let (database, endpoint) = (database.into(), self.instance.endpoint.clone());
        let endpoint = endpoint.ok_or_else(|| Error::conflict("the instance has no address yet"))?;
        let datastores = self.trove.datastores();
        let manifest = datastores.manifest(&self.instance.datastore).ok();
        let rules = manifest.and_then(|manifest| manifest.accounts.as_ref());
        if database.is_some() && rules.is_some_and(|rules| !rules.databases) {
            return Err(no_databases());
        }
        let scheme = manifest.map_or(&self.instance.datastore, |manifest| &manifest.uri_scheme);
        Ok(ConnectionUri::new(scheme, endpoint, database))
    }

    /// Its databases, users, rights and root.
    pub fn accounts(&self) -> Accounts {
        Accounts::new(self.trove.clone(), self.instance.id)
    }

    /// Restarts its server.
    pub async fn restart(&self) -> Result<OperationHandle> {
        self.begin(Action::Restart, &RestartServer {}, None).await
    }

    /// Stops its server; it stays so until it is started.
    pub async fn stop(&self) -> Result<OperationHandle> {
        self.begin(Action::Stop, &StopServer {}, None).await
    }

    /// Starts its stopped server.
    pub async fn start(&self) -> Result<OperationHandle> {
        self.begin(Action::Start, &StartServer {}, None).await
    }

    /// Removes it with all its data, whatever it is doing; what runs on it ends first.
    pub async fn delete(&self) -> Result<OperationHandle> {
        self.begin(Action::Delete, &DeleteInstance {}, None).await
    }

    /// Gives it the settings of a configuration group, in place of those it has. What its server can take while it runs
    /// is in force when the operation ends; the rest is named in [`Instance::settings`] until it was restarted.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::error::Kind::NotFound) for a group there is not in its project,
    /// [`Invalid`](crate::error::Kind::Invalid) for one of another datastore or version, or with settings beyond its flavor.
    pub async fn configure(&self, group: ConfigurationId) -> Result<OperationHandle> {
        let instance = self.trove.read(self.instance.id).await?;
        let group = self.trove.configurations().for_instance(group, &instance).await?;
        self.trove.configure(&instance, Some(&group)).await
    }

    /// Takes its configuration group away: all parameters go back to their defaults.
    /// [`Conflict`](crate::error::Kind::Conflict) where it has none.
    pub async fn unconfigure(&self) -> Result<OperationHandle> {
        let instance = self.trove.read(self.instance.id).await?;
        if instance.configuration.is_none() {
            return Err(Error::conflict("the instance has no configuration group"));
        }
        self.trove.configure(&instance, None).await
    }

    /// Runs its data with another version of its datastore, or with another image that its own version has by now. Checked
    /// before anything is changed; where the new server does not come up, the one before is brought back.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::error::Kind::NotFound) for a version that is not on offer,
    /// [`Conflict`](crate::error::Kind::Conflict) where it runs that already, or has a configuration group, which is of
    /// one version.
    pub async fn upgrade(&self, version: &str) -> Result<OperationHandle> {
        let instance = self.trove.read(self.instance.id).await?;
        let version = self.trove.datastores().choose(&instance.datastore, Some(version)).await?;
        let to = InstanceRelease { version: version.name, number: version.number, image: version.image };
        if to == InstanceRelease::from(&instance) {
            return Err(Error::conflict(format!("the instance runs version {} from that image already", to.version)));
        }
        if instance.configuration.is_some() && to.version != instance.version {
            let why = "the instance has a configuration group, which is of one version; take it away first";
            return Err(Error::conflict(why));
        }
        self.begin(Action::Upgrade, &UpgradeInstance::new(to), Some(&instance)).await
    }

    /// Gives it another flavor, by one restart of its server; the one before where its server does not come up.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::error::Kind::NotFound) for a flavor that is not on offer,
    /// [`Conflict`](crate::error::Kind::Conflict) where it has that already,
    /// [`Invalid`](crate::error::Kind::Invalid) where its datastore or its settings do not fit into it.
    pub async fn resize(&self, flavor: &str) -> Result<OperationHandle> {
        let instance = self.trove.read(self.instance.id).await?;
        let driver = self.trove.0.control.guests.driver(&instance.datastore)?;
        let flavor = find_flavor(self.trove.flavors(), Some(flavor))?;
        check_memory(driver.manifest(), flavor)?;
        driver.check_settings(flavor, &instance.given.settings)?;
        if let Some(group) = instance.configuration {
            driver.check_settings(flavor, &self.trove.configurations().get(group).await?.settings)?;
        }
        if *flavor == instance.flavor {
            return Err(Error::conflict(format!("the instance has flavor {} already", flavor.name)));
        }
        self.begin(Action::Resize, &ResizeInstance::new(flavor.clone()), Some(&instance)).await
    }

    /// Gives its guest another key and another login at the message bus, and takes the ones before away once it answers with
    /// the new. Its server does not notice, and calls about accounts go on.
    ///
    /// This limits what a key is worth that leaks later. Whoever has the present key and reads the wire reads the next one
    /// too: an instance whose guest was taken over has to be made anew.
    pub async fn rotate_identity(&self) -> Result<OperationHandle> {
        self.begin(Action::Rotate, &RotateIdentity::default(), None).await
    }

    /// Begins an operation; where it was decided on the instance as it was `seen`, only if it is so still.
    async fn begin(&self, action: Action, flow: &impl Flow, seen: Option<&Instance>) -> Result<OperationHandle> {
        let mut operation = flow.begin(OperationId::new_v4())?;
        operation.seen = seen.map(|instance| instance.epoch);
        self.trove.begin(self.instance.id, action, operation).await
    }
}

impl Deref for InstanceHandle {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        &self.instance
    }
}
