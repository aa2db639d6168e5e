use std::ops::Deref;

use super::{
    ConnectionUri, InstanceAccounts, OperationHandle, Trove,
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

/// A snapshot of an instance, with methods to operate on it. [`refresh`](Self::refresh) updates the
/// snapshot.
///
/// Dereferences to [`Instance`].
#[derive(Clone)]
pub struct InstanceHandle {
    trove: Trove,
    instance: Instance,
}

impl InstanceHandle {
    pub(super) fn new(trove: Trove, instance: Instance) -> Self {
        Self { trove, instance }
    }

    /// Reads the instance again; [`NotFound`](crate::error::Kind::NotFound) if it was deleted.
    pub async fn refresh(&mut self) -> Result<&Instance> {
        self.instance = self.trove.read(self.instance.id).await?;
        Ok(&self.instance)
    }

    /// Returns the URI at which a client connects to a database, or to the server for `None`. It
    /// contains no password.
    ///
    /// ```
    /// # #[cfg(feature = "conformance")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let world = trove_core::conformance::memory::World::new();
    /// # let trove = trove_core::Trove::builder()
    /// #     .store("sqlite::memory:")
    /// #     .platform(world.platform())
    /// #     .datastore(world.driver())
    /// #     .start()
    /// #     .await?;
    /// # let new = trove_core::control::NewInstance::new("orders", "memory").database("app").user("app", "correct horse");
    /// # let orders = trove.create(new).await?.active().await?;
    /// let uri = orders.uri("app")?.user("app");
    /// assert!(uri.to_string().starts_with("memory://app@"));
    /// assert!(uri.to_string().ends_with("/app"));
    /// # trove.shut_down().await;
    /// # Ok::<_, trove_core::error::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::error::Kind::Conflict) while the instance has no endpoint,
    /// [`Unsupported`](crate::error::Kind::Unsupported) for a database if the datastore has none.
    pub fn uri<'a>(&self, database: impl Into<Option<&'a str>>) -> Result<ConnectionUri> {
        let (database, endpoint) = (database.into(), self.instance.endpoint.clone());
        let endpoint = endpoint.ok_or_else(|| Error::conflict("the instance has no endpoint yet"))?;
        let datastores = self.trove.datastores();
        let manifest = datastores.manifest(&self.instance.datastore).ok();
        let rules = manifest.and_then(|manifest| manifest.accounts.as_ref());
        if database.is_some() && rules.is_some_and(|rules| !rules.databases) {
            return Err(no_databases());
        }
        let scheme = manifest.map_or(&self.instance.datastore, |manifest| &manifest.uri_scheme);
        Ok(ConnectionUri::new(scheme, endpoint, database))
    }

    /// Returns the databases, users and privileges inside the instance.
    ///
    /// ```
    /// # #[cfg(feature = "conformance")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let world = trove_core::conformance::memory::World::new();
    /// # let trove = trove_core::Trove::builder()
    /// #     .store("sqlite::memory:")
    /// #     .platform(world.platform())
    /// #     .datastore(world.driver())
    /// #     .start()
    /// #     .await?;
    /// # let new = trove_core::control::NewInstance::new("orders", "memory").database("app").user("app", "correct horse");
    /// # let orders = trove.create(new).await?.active().await?;
    /// use trove_core::model::{NewUser, PageRequest};
    ///
    /// let accounts = orders.accounts();
    /// accounts.create_users([NewUser::new("analyst", "battery staple").granted("app")]).await?;
    /// assert_eq!(accounts.users(PageRequest::default()).await?.items.len(), 2);
    /// # trove.shut_down().await;
    /// # Ok::<_, trove_core::error::Error>(()) }).unwrap();
    /// ```
    pub fn accounts(&self) -> InstanceAccounts {
        InstanceAccounts::new(self.trove.clone(), self.instance.id)
    }

    /// Restarts the server.
    ///
    /// ```
    /// # #[cfg(feature = "conformance")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let world = trove_core::conformance::memory::World::new();
    /// # let trove = trove_core::Trove::builder()
    /// #     .store("sqlite::memory:")
    /// #     .platform(world.platform())
    /// #     .datastore(world.driver())
    /// #     .start()
    /// #     .await?;
    /// # let new = trove_core::control::NewInstance::new("orders", "memory").database("app").user("app", "correct horse");
    /// # let orders = trove.create(new).await?.active().await?;
    /// let orders = orders.restart().await?.active().await?;
    /// # trove.shut_down().await;
    /// # Ok::<_, trove_core::error::Error>(()) }).unwrap();
    /// ```
    pub async fn restart(&self) -> Result<OperationHandle> {
        self.begin(Action::Restart, &RestartServer {}, None).await
    }

    /// Stops the server. It stays stopped until [`start`](Self::start).
    pub async fn stop(&self) -> Result<OperationHandle> {
        self.begin(Action::Stop, &StopServer {}, None).await
    }

    /// Starts the stopped server.
    pub async fn start(&self) -> Result<OperationHandle> {
        self.begin(Action::Start, &StartServer {}, None).await
    }

    /// Deletes the instance with all its data. Allowed in every state; running operations are ended
    /// first.
    pub async fn delete(&self) -> Result<OperationHandle> {
        self.begin(Action::Delete, &DeleteInstance {}, None).await
    }

    /// Assigns a configuration group, whose settings replace the current ones. Dynamic parameters
    /// are in effect when the operation ends; [`Instance::settings`] lists the parameters that
    /// require a restart.
    ///
    /// ```
    /// # #[cfg(feature = "conformance")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let world = trove_core::conformance::memory::World::new();
    /// # let trove = trove_core::Trove::builder()
    /// #     .store("sqlite::memory:")
    /// #     .platform(world.platform())
    /// #     .datastore(world.driver())
    /// #     .start()
    /// #     .await?;
    /// # let new = trove_core::control::NewInstance::new("orders", "memory").database("app").user("app", "correct horse");
    /// # let orders = trove.create(new).await?.active().await?;
    /// use trove_core::control::NewConfiguration;
    ///
    /// let new = NewConfiguration::new("fast", "memory").set("max_rows", 500_i64);
    /// let fast = trove.configurations().create(new).await?;
    /// orders.configure(fast.id).await?.wait().await?;
    /// # trove.shut_down().await;
    /// # Ok::<_, trove_core::error::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::error::Kind::NotFound) if the project of the instance has no such group,
    /// [`Invalid`](crate::error::Kind::Invalid) if the group is for another datastore or version,
    /// or its settings exceed the flavor.
    pub async fn configure(&self, group: ConfigurationId) -> Result<OperationHandle> {
        let instance = self.trove.read(self.instance.id).await?;
        let group = self.trove.configurations().for_instance(group, &instance).await?;
        self.trove.configure(&instance, Some(&group)).await
    }

    /// Removes the configuration group: all parameters return to their defaults.
    /// [`Conflict`](crate::error::Kind::Conflict) if the instance has none.
    pub async fn unconfigure(&self) -> Result<OperationHandle> {
        let instance = self.trove.read(self.instance.id).await?;
        if instance.configuration.is_none() {
            return Err(Error::conflict("the instance has no configuration group"));
        }
        self.trove.configure(&instance, None).await
    }

    /// Upgrades to another version of the datastore, or to the current image of the same version.
    /// The upgrade is validated before anything changes. If the new server does not start, the
    /// operation restores the former one.
    ///
    /// ```
    /// # #[cfg(feature = "conformance")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let world = trove_core::conformance::memory::World::new();
    /// # let trove = trove_core::Trove::builder()
    /// #     .store("sqlite::memory:")
    /// #     .platform(world.platform())
    /// #     .datastore(world.driver())
    /// #     .start()
    /// #     .await?;
    /// # let new = trove_core::control::NewInstance::new("orders", "memory").database("app").user("app", "correct horse");
    /// # let orders = trove.create(new).await?.active().await?;
    /// use trove_core::control::NewVersion;
    ///
    /// let image = trove.datastores().version("memory", &orders.version).await?.image;
    /// trove.datastores().add(NewVersion::new("memory", "patched", &orders.version_number, image)).await?;
    /// orders.upgrade("patched").await?.wait().await?;
    /// assert_eq!(trove.instance(orders.id).await?.version, "patched");
    /// # trove.shut_down().await;
    /// # Ok::<_, trove_core::error::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::error::Kind::NotFound) for a version that is not offered,
    /// [`Conflict`](crate::error::Kind::Conflict) if the instance already runs this version and
    /// image, or has a configuration group, which is for one version.
    pub async fn upgrade(&self, version: &str) -> Result<OperationHandle> {
        let instance = self.trove.read(self.instance.id).await?;
        let version = self.trove.datastores().choose(&instance.datastore, Some(version)).await?;
        let to = InstanceRelease { version: version.name, number: version.number, image: version.image };
        if to == InstanceRelease::from(&instance) {
            return Err(Error::conflict(format!("the instance already runs version {} from this image", to.version)));
        }
        if instance.configuration.is_some() && to.version != instance.version {
            let why = "the instance has a configuration group, which is for one version; remove it first";
            return Err(Error::conflict(why));
        }
        self.begin(Action::Upgrade, &UpgradeInstance::new(to), Some(&instance)).await
    }

    /// Resizes to another flavor with one restart of the server. If the server does not start, the
    /// operation restores the former flavor.
    ///
    /// ```
    /// # #[cfg(feature = "conformance")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let world = trove_core::conformance::memory::World::new();
    /// # let trove = trove_core::Trove::builder()
    /// #     .store("sqlite::memory:")
    /// #     .platform(world.platform())
    /// #     .datastore(world.driver())
    /// #     .start()
    /// #     .await?;
    /// # let new = trove_core::control::NewInstance::new("orders", "memory").database("app").user("app", "correct horse");
    /// # let orders = trove.create(new).await?.active().await?;
    /// let orders = orders.resize("medium").await?.active().await?;
    /// assert_eq!(orders.flavor.name, "medium");
    /// # trove.shut_down().await;
    /// # Ok::<_, trove_core::error::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::error::Kind::NotFound) for a flavor that is not offered,
    /// [`Conflict`](crate::error::Kind::Conflict) if the instance already has it,
    /// [`Invalid`](crate::error::Kind::Invalid) if it is too small for the datastore or for the
    /// settings.
    pub async fn resize(&self, flavor: &str) -> Result<OperationHandle> {
        let instance = self.trove.read(self.instance.id).await?;
        let driver = self.trove.0.control.guests.driver(&instance.datastore)?;
        let flavor = find_flavor(self.trove.flavors(), Some(flavor))?;
        check_memory(driver.manifest(), flavor)?;
        driver.check_settings(flavor, &instance.assigned_settings.settings)?;
        if let Some(group) = instance.configuration {
            driver.check_settings(flavor, &self.trove.configurations().get(group).await?.settings)?;
        }
        if *flavor == instance.flavor {
            return Err(Error::conflict(format!("the instance already has flavor {}", flavor.name)));
        }
        self.begin(Action::Resize, &ResizeInstance::new(flavor.clone()), Some(&instance)).await
    }

    /// Rotates the identity of the guest: its key and its login at the message broker. The former ones
    /// are revoked after the guest has answered with the new ones. The server keeps running, and
    /// account requests stay available.
    ///
    /// This limits the use of a key that leaks later. An attacker who has the current key and can
    /// read the traffic learns the next key as well, so an instance with a compromised guest has to
    /// be recreated.
    pub async fn rotate_identity(&self) -> Result<OperationHandle> {
        self.begin(Action::Rotate, &RotateIdentity::default(), None).await
    }

    /// Begins an operation; with `expected`, only if no operation has run since that snapshot.
    async fn begin(&self, action: Action, flow: &impl Flow, expected: Option<&Instance>) -> Result<OperationHandle> {
        let mut operation = flow.begin(OperationId::new_v4())?;
        operation.expected_epoch = expected.map(|instance| instance.epoch);
        self.trove.begin(self.instance.id, action, operation).await
    }
}

impl Deref for InstanceHandle {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        &self.instance
    }
}
