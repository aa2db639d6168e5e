use std::time::Duration;

use super::{OperationHandle, Trove, new_instance::check_label};
use crate::{
    datastore::check_settings,
    error::{Error, Kind, Result},
    flow::Flow,
    id::{ConfigurationId, InstanceId, OperationId},
    lifecycle::Action,
    model::{AssignedSettings, ConfigurationGroup, Instance, Setting, Settings},
    taskmanager::ConfigureInstance,
    time::Timestamp,
};

/// The pause before a failed configuration is retried.
const RETRY_PAUSE: Duration = Duration::from_secs(30);
/// The page size of queries for instances.
const PAGE: u32 = 200;

/// The configuration groups: named sets of settings that any number of instances of one datastore
/// version share.
///
/// A group is assigned by [`InstanceHandle::configure`](super::InstanceHandle::configure) or at
/// [creation](super::NewInstance::configuration). Dynamic parameters take effect at once;
/// [`Instance::settings`](crate::model::Instance::settings) lists the parameters that require a
/// restart.
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
/// use trove_core::{control::{NewConfiguration, NewInstance}, model::Settings};
///
/// let groups = trove.configurations();
/// let fast = groups.create(NewConfiguration::new("fast", "memory").set("max_rows", 500_i64)).await?;
/// let new = NewInstance::new("orders", "memory").configuration(fast.id);
/// let orders = trove.create(new).await?.active().await?;
/// // A change of the group applies to all of its instances.
/// for operation in groups.set(fast.id, Settings::from([("max_rows".to_owned(), 600_i64.into())])).await? {
///     operation.wait().await?;
/// }
/// assert_eq!(groups.instances(fast.id).await?[0].id, orders.id);
/// # trove.shut_down().await;
/// # Ok::<_, trove_core::error::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Configurations {
    trove: Trove,
}

/// A request for a configuration group.
///
/// ```
/// use trove_core::control::NewConfiguration;
///
/// let fast = NewConfiguration::new("fast", "postgresql").version("17").set("work_mem", "16MB").set("jit", false);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct NewConfiguration {
    id: ConfigurationId,
    project: String,
    name: String,
    description: String,
    datastore: String,
    version: Option<String>,
    settings: Settings,
}

impl NewConfiguration {
    /// Creates a request for a group without settings, for the default version of a datastore.
    pub fn new(name: impl Into<String>, datastore: impl Into<String>) -> Self {
        Self {
            id: ConfigurationId::new_v4(),
            project: "default".to_owned(),
            name: name.into(),
            description: String::new(),
            datastore: datastore.into(),
            version: None,
            settings: Settings::new(),
        }
    }

    /// Sets the id, which makes a repeated request idempotent. Default: a random id.
    pub fn id(mut self, id: ConfigurationId) -> Self {
        self.id = id;
        self
    }

    /// Sets the tenant. Default: `default`.
    pub fn project(mut self, project: impl Into<String>) -> Self {
        self.project = project.into();
        self
    }

    /// Sets the description.
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    /// Sets the version of the datastore, by its name in the registry of versions.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Sets a parameter.
    pub fn set(mut self, parameter: impl Into<String>, value: impl Into<Setting>) -> Self {
        self.settings.insert(parameter.into(), value.into());
        self
    }

    /// Sets several parameters.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings.extend(settings);
        self
    }
}

impl Configurations {
    pub(super) fn new(trove: Trove) -> Self {
        Self { trove }
    }

    /// Creates a group after validating its settings by the [parameter
    /// catalog](super::Datastores::parameters) of its version.
    ///
    /// # Errors
    ///
    /// [`NotFound`](Kind::NotFound) for an unknown datastore or version; [`Invalid`](Kind::Invalid)
    /// for an unknown or reserved parameter, or a value of another type or out of range;
    /// [`Conflict`](Kind::Conflict) if the id exists with another request.
    pub async fn create(&self, new: NewConfiguration) -> Result<ConfigurationGroup> {
        check_label("the name of a configuration group", &new.name)?;
        check_label("the project of a configuration group", &new.project)?;
        check_description(&new.description)?;
        let version = self.trove.datastores().choose(&new.datastore, new.version.as_deref()).await?;
        let settings = self.check(&new.datastore, &version.name, &new.settings).await?;
        let now = self.trove.0.clock.now();
        let group = ConfigurationGroup {
            id: new.id,
            project: new.project,
            name: new.name,
            description: new.description,
            datastore: new.datastore,
            version: version.name,
            settings,
            revision: 1,
            created_at: now,
            updated_at: now,
        };
        match self.trove.0.control.store.insert_configuration(&group).await {
            Err(error) if error.kind() == Kind::Conflict => self.existing(group, error).await,
            inserted => inserted.map(|()| group),
        }
    }

    /// Returns a group; [`NotFound`](Kind::NotFound) if it does not exist.
    pub async fn get(&self, id: ConfigurationId) -> Result<ConfigurationGroup> {
        let found = self.trove.0.control.store.configuration(id).await?;
        found.ok_or_else(|| missing(id))
    }

    /// Returns up to `limit` groups of one project or of all in order of creation, starting behind
    /// `after`.
    pub async fn list(
        &self,
        project: Option<&str>,
        after: Option<&ConfigurationGroup>,
        limit: u32,
    ) -> Result<Vec<ConfigurationGroup>> {
        self.trove.0.control.store.configurations(project, after, limit).await
    }

    /// Replaces the settings of a group and applies them to its instances. Returns the operations
    /// that apply them; a busy instance is configured later, in the background.
    ///
    /// # Errors
    ///
    /// Those of [`create`](Self::create); [`Invalid`](Kind::Invalid) also if the settings exceed
    /// the flavor of an instance that uses the group; [`Busy`](Kind::Busy) if the group was changed
    /// concurrently.
    pub async fn replace(&self, id: ConfigurationId, settings: Settings) -> Result<Vec<OperationHandle>> {
        let group = self.get(id).await?;
        let settings = self.check(&group.datastore, &group.version, &settings).await?;
        self.replace_checked(&group, settings).await
    }

    /// Sets some parameters of a group and keeps the others; otherwise like
    /// [`replace`](Self::replace).
    pub async fn set(&self, id: ConfigurationId, settings: Settings) -> Result<Vec<OperationHandle>> {
        let group = self.get(id).await?;
        // Validation normalizes the names, so that they match those of the group.
        let changed = self.check(&group.datastore, &group.version, &settings).await?;
        let mut all = group.settings.clone();
        all.extend(changed);
        self.replace_checked(&group, all).await
    }

    /// Renames a group and replaces its description.
    pub async fn rename(&self, id: ConfigurationId, name: &str, description: &str) -> Result<()> {
        check_label("the name of a configuration group", name)?;
        check_description(description)?;
        let renamed = self.trove.0.control.store.rename_configuration(id, name, description, self.trove.0.clock.now());
        if renamed.await? { Ok(()) } else { Err(missing(id)) }
    }

    /// Deletes a group; [`Conflict`](Kind::Conflict) if an instance uses it. Succeeds if the group
    /// does not exist.
    pub async fn delete(&self, id: ConfigurationId) -> Result<()> {
        self.trove.0.control.store.delete_configuration(id).await
    }

    /// Returns the instances that use a group in order of creation.
    pub async fn instances(&self, id: ConfigurationId) -> Result<Vec<Instance>> {
        let mut found: Vec<Instance> = Vec::new();
        loop {
            let page = self.trove.0.control.store.instances_of_configuration(id, found.last(), PAGE).await?;
            if page.is_empty() {
                return Ok(found);
            }
            found.extend(page);
        }
    }

    /// Returns a group if its project, datastore, version and settings fit the instance.
    pub(super) async fn for_instance(&self, id: ConfigurationId, instance: &Instance) -> Result<ConfigurationGroup> {
        let group = self.get(id).await?;
        if group.project != instance.project {
            // Does not reveal the groups of other tenants.
            return Err(missing(id));
        }
        if (&group.datastore, &group.version) != (&instance.datastore, &instance.version) {
            return Err(Error::invalid(format!(
                "configuration group {:?} is for {} {}; the instance is {} {}",
                group.name, group.datastore, group.version, instance.datastore, instance.version
            )));
        }
        self.check_flavor(instance, &group.settings)?;
        Ok(group)
    }

    fn check_flavor(&self, instance: &Instance, settings: &Settings) -> Result<()> {
        let driver = self.trove.0.control.guests.driver(&instance.datastore)?;
        driver.check_settings(&instance.flavor, settings)
    }

    /// Returns the group that an earlier request created, if the requests are the same.
    async fn existing(&self, asked: ConfigurationGroup, conflict: Error) -> Result<ConfigurationGroup> {
        let made = self.get(asked.id).await?;
        let (created_at, updated_at) = (made.created_at, made.updated_at);
        let same = made == ConfigurationGroup { created_at, updated_at, ..asked };
        if same { Ok(made) } else { Err(conflict) }
    }

    async fn check(&self, datastore: &str, version: &str, settings: &Settings) -> Result<Settings> {
        if settings.is_empty() {
            return Ok(Settings::new());
        }
        let catalog = self.trove.datastores().parameters(datastore, version).await?;
        check_settings(&catalog, settings)
    }

    /// Replaces the settings of a group unless it was changed since it was read, and begins to
    /// apply them.
    async fn replace_checked(&self, group: &ConfigurationGroup, settings: Settings) -> Result<Vec<OperationHandle>> {
        for instance in self.instances(group.id).await? {
            self.check_flavor(&instance, &settings)?;
        }
        let store = &self.trove.0.control.store;
        if !store.replace_settings(group.id, &settings, group.revision, self.trove.0.clock.now()).await? {
            return Err(Error::busy("the configuration group was changed concurrently"));
        }
        let mut begun = Vec::new();
        for instance in self.instances(group.id).await? {
            match self.trove.configure_if_outdated(instance.id).await {
                Ok(operation) => begun.extend(operation),
                // The instance is busy; it is configured later.
                Err(error) => {
                    tracing::debug!(instance = %instance.id, error = error.report(), "postponed the configuration of an instance");
                    begun.extend(self.trove.running_configuration(instance.id).await?);
                }
            }
        }
        Ok(begun)
    }
}

impl Trove {
    /// Begins to configure idle instances with an outdated revision of their group, except those
    /// that failed recently.
    pub(super) async fn configure_outdated(&self) -> Result<()> {
        let since = self.0.clock.now().saturating_sub(RETRY_PAUSE).unwrap_or(Timestamp::MIN);
        for id in self.0.control.store.instances_with_outdated_configuration(since, PAGE).await? {
            if let Err(error) = self.configure_if_outdated(id).await {
                // The instance became busy or was deleted; or the error concerns this instance
                // only.
                tracing::debug!(instance = %id, error = error.report(), "failed to begin the configuration of an instance");
            }
        }
        Ok(())
    }

    /// Begins to assign the settings of a group, or none.
    pub(super) async fn configure(
        &self,
        instance: &Instance,
        group: Option<&ConfigurationGroup>,
    ) -> Result<OperationHandle> {
        let given = group.map(AssignedSettings::from).unwrap_or_default();
        let mut operation = ConfigureInstance::new(given).begin(OperationId::new_v4())?;
        (operation.configuration, operation.expected_epoch) = (group.map(|group| group.id), Some(instance.epoch));
        self.begin(instance.id, Action::Configure, operation).await
    }

    /// Begins to assign the latest revision of the group of an instance, unless it is assigned.
    async fn configure_if_outdated(&self, id: InstanceId) -> Result<Option<OperationHandle>> {
        let instance = self.read(id).await?;
        let Some(group) = instance.configuration else { return Ok(None) };
        let group = self.configurations().get(group).await?;
        if instance.assigned_settings.group == Some((group.id, group.revision)) {
            return Ok(None);
        }
        self.configure(&instance, Some(&group)).await.map(Some)
    }

    /// Returns the running configuration of an instance.
    async fn running_configuration(&self, id: InstanceId) -> Result<Option<OperationHandle>> {
        let operations = self.operations(id).await?;
        let running = operations.iter().rev().find(|operation| !operation.status.is_final());
        let running = running.filter(|operation| operation.kind == ConfigureInstance::KIND);
        Ok(running.map(|operation| self.handle(operation.id, id, &operation.kind)))
    }
}

fn check_description(description: &str) -> Result<()> {
    if description.len() > 2000 || description.chars().any(|letter| letter.is_control() && letter != '\n') {
        return Err(Error::invalid("a description must not exceed 2000 bytes or contain control characters"));
    }
    Ok(())
}

fn missing(id: ConfigurationId) -> Error {
    Error::not_found(format!("configuration group {id} does not exist"))
}
