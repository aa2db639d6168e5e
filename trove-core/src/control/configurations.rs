use std::time::Duration;

use super::{OperationHandle, Trove, new_instance::check_label};
use crate::{
    datastore::check_settings,
    error::{Error, Kind, Result},
    flow::Flow,
    id::{ConfigurationId, InstanceId, OperationId},
    lifecycle::Action,
    model::{ConfigurationGroup, GivenSettings, Instance, Setting, Settings},
    taskmanager::ConfigureInstance,
    time::Timestamp,
};

/// How long an instance that could not be given its configuration is left alone.
const REST: Duration = Duration::from_secs(30);
/// How many instances are asked for at a time.
const PAGE: u32 = 200;

/// The configuration groups: settings under a name, for any number of instances of one datastore version.
///
/// An instance is given a group by [`InstanceHandle::configure`](super::InstanceHandle::configure), or when it is
/// [made](super::NewInstance::configuration). What a running server can take is in force at once; the rest is named in
/// [`Instance::settings`](crate::model::Instance::settings) until it was restarted.
#[derive(Clone)]
pub struct Configurations {
    trove: Trove,
}

/// A configuration group to make.
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
    /// A group of this name for the default version of a datastore, which sets nothing yet.
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

    /// The id to give it, so that the request can be repeated without making a second one.
    pub fn id(mut self, id: ConfigurationId) -> Self {
        self.id = id;
        self
    }

    /// The tenant it belongs to; `default` unless said.
    pub fn project(mut self, project: impl Into<String>) -> Self {
        self.project = project.into();
        self
    }

    /// What to say of it.
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    /// The version it is for, as the registry of versions calls it.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Sets a parameter.
    pub fn set(mut self, parameter: impl Into<String>, value: impl Into<Setting>) -> Self {
        self.settings.insert(parameter.into(), value.into());
        self
    }

    /// Sets parameters.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings.extend(settings);
        self
    }
}

impl Configurations {
    pub(super) fn new(trove: Trove) -> Self {
        Self { trove }
    }

    /// Makes a group, once its settings fit the [catalogue](super::Datastores::parameters) of its version.
    ///
    /// # Errors
    ///
    /// [`NotFound`](Kind::NotFound) for a datastore or version there is not, [`Invalid`](Kind::Invalid) for a setting that
    /// cannot be: a parameter there is not, one that is the service's own, a value of another type or out of range.
    /// [`Conflict`](Kind::Conflict) for an id that was asked for differently before.
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
            Err(error) if error.kind() == Kind::Conflict => self.joined(group, error).await,
            inserted => inserted.map(|()| group),
        }
    }

    /// One group; [`NotFound`](Kind::NotFound) where there is none.
    pub async fn get(&self, id: ConfigurationId) -> Result<ConfigurationGroup> {
        let found = self.trove.0.control.store.configuration(id).await?;
        found.ok_or_else(|| missing(id))
    }

    /// Groups in order of creation: of one project or of all, those behind `after`, `limit` at the most.
    pub async fn list(
        &self,
        project: Option<&str>,
        after: Option<&ConfigurationGroup>,
        limit: u32,
    ) -> Result<Vec<ConfigurationGroup>> {
        self.trove.0.control.store.configurations(project, after, limit).await
    }

    /// Puts these settings in place of a group's, and has all instances that have it given them. Returns the operations
    /// that do; an instance that is busy is given them when it is not.
    ///
    /// # Errors
    ///
    /// As for [`create`](Self::create); [`Invalid`](Kind::Invalid) also where they are too much for the flavor of an
    /// instance that has the group. [`Busy`](Kind::Busy) where somebody else changed the group meanwhile.
    pub async fn replace(&self, id: ConfigurationId, settings: Settings) -> Result<Vec<OperationHandle>> {
        let group = self.get(id).await?;
        let settings = self.check(&group.datastore, &group.version, &settings).await?;
        self.replace_checked(&group, settings).await
    }

    /// Sets some parameters of a group and leaves the others, as [`replace`](Self::replace) does.
    pub async fn set(&self, id: ConfigurationId, settings: Settings) -> Result<Vec<OperationHandle>> {
        let group = self.get(id).await?;
        // Checked first for their names as the server writes them, so that they meet those there are.
        let changed = self.check(&group.datastore, &group.version, &settings).await?;
        let mut all = group.settings.clone();
        all.extend(changed);
        self.replace_checked(&group, all).await
    }

    /// Calls a group otherwise. Its settings stay.
    pub async fn rename(&self, id: ConfigurationId, name: &str, description: &str) -> Result<()> {
        check_label("the name of a configuration group", name)?;
        check_description(description)?;
        let renamed = self.trove.0.control.store.rename_configuration(id, name, description, self.trove.0.clock.now());
        if renamed.await? { Ok(()) } else { Err(missing(id)) }
    }

    /// Removes a group. One that is absent is `Ok`; [`Conflict`](Kind::Conflict) where an instance has it.
    pub async fn delete(&self, id: ConfigurationId) -> Result<()> {
        self.trove.0.control.store.delete_configuration(id).await
    }

    /// The instances that have a group, in order of creation.
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

    /// The group for an instance of this project, datastore, version and flavor.
    pub(super) async fn for_instance(&self, id: ConfigurationId, instance: &Instance) -> Result<ConfigurationGroup> {
        let group = self.get(id).await?;
        if group.project != instance.project {
            // Which groups others have is not told.
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

    /// The group that an earlier request made, where that was the same.
    async fn joined(&self, asked: ConfigurationGroup, conflict: Error) -> Result<ConfigurationGroup> {
        let made = self.get(asked.id).await?;
        let (created_at, updated_at) = (made.created_at, made.updated_at);
        let same = made == ConfigurationGroup { created_at, updated_at, ..asked };
        if same { Ok(made) } else { Err(conflict) }
    }

    async fn check(&self, datastore: &str, version: &str, settings: &Settings) -> Result<Settings> {
        if settings.is_empty() {
            return Ok(Settings::new());
        }
        let catalogue = self.trove.datastores().parameters(datastore, version).await?;
        check_settings(&catalogue, settings)
    }

    /// Writes settings in place of those of a group as it was read, and begins to give them to its instances.
    async fn replace_checked(&self, group: &ConfigurationGroup, settings: Settings) -> Result<Vec<OperationHandle>> {
        for instance in self.instances(group.id).await? {
            self.check_flavor(&instance, &settings)?;
        }
        let store = &self.trove.0.control.store;
        if !store.replace_settings(group.id, &settings, group.revision, self.trove.0.clock.now()).await? {
            return Err(Error::busy("the configuration group was changed by somebody else meanwhile"));
        }
        let mut begun = Vec::new();
        for instance in self.instances(group.id).await? {
            match self.trove.configure_again(instance.id).await {
                Ok(operation) => begun.extend(operation),
                // It is given them later.
                Err(error) => {
                    tracing::debug!(instance = %instance.id, error = error.report(), "not configured yet");
                    begun.extend(self.trove.configuring(instance.id).await?);
                }
            }
        }
        Ok(begun)
    }
}

impl Trove {
    /// Begins to give instances the latest revision of their group, those that have an older one and are not busy. What
    /// failed lately is left for a while.
    pub(super) async fn configure_behind(&self) -> Result<()> {
        let since = self.0.clock.now().saturating_sub(REST).unwrap_or(Timestamp::MIN);
        for id in self.0.control.store.instances_behind(since, PAGE).await? {
            if let Err(error) = self.configure_again(id).await {
                // It has become busy or is gone, or its group is; or it is this one's alone.
                tracing::debug!(instance = %id, error = error.report(), "an instance is not given its configuration");
            }
        }
        Ok(())
    }

    /// Begins to give an instance the settings of a group, or none.
    pub(super) async fn configure(
        &self,
        instance: &Instance,
        group: Option<&ConfigurationGroup>,
    ) -> Result<OperationHandle> {
        let given = group.map(GivenSettings::from).unwrap_or_default();
        let mut operation = ConfigureInstance::new(given).begin(OperationId::new_v4())?;
        (operation.configuration, operation.seen) = (group.map(|group| group.id), Some(instance.epoch));
        self.begin(instance.id, Action::Configure, operation).await
    }

    /// Begins to give an instance the latest revision of the group it has, unless it has that.
    async fn configure_again(&self, id: InstanceId) -> Result<Option<OperationHandle>> {
        let instance = self.read(id).await?;
        let Some(group) = instance.configuration else { return Ok(None) };
        let group = self.configurations().get(group).await?;
        if instance.given.group == Some((group.id, group.revision)) {
            return Ok(None);
        }
        self.configure(&instance, Some(&group)).await.map(Some)
    }

    /// The operation that gives an instance settings now.
    async fn configuring(&self, id: InstanceId) -> Result<Option<OperationHandle>> {
        let operations = self.operations(id).await?;
        let running = operations.iter().rev().find(|operation| !operation.status.is_final());
        let running = running.filter(|operation| operation.kind == ConfigureInstance::KIND);
        Ok(running.map(|operation| self.handle(operation.id, id, &operation.kind)))
    }
}

fn check_description(description: &str) -> Result<()> {
    if description.len() > 2000 || description.chars().any(|letter| letter.is_control() && letter != '\n') {
        return Err(Error::invalid("a description has at most 2000 bytes and no control characters"));
    }
    Ok(())
}

fn missing(id: ConfigurationId) -> Error {
    Error::not_found(format!("there is no configuration group {id}"))
}
