use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::id::ConfigurationId;

/// The settings assigned to an instance, with the configuration group and revision that they come
/// from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AssignedSettings {
    /// The group and its revision; `None` without a group.
    pub group: Option<(ConfigurationId, u64)>,
    /// The settings.
    pub settings: Settings,
}

impl From<&ConfigurationGroup> for AssignedSettings {
    fn from(group: &ConfigurationGroup) -> Self {
        Self { group: Some((group.id, group.revision)), settings: group.settings.clone() }
    }
}

/// A named set of settings that any number of instances of one datastore version share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ConfigurationGroup {
    /// The id.
    pub id: ConfigurationId,
    /// The tenant that owns the group.
    pub project: String,
    /// The name; not necessarily unique.
    pub name: String,
    /// The description.
    pub description: String,
    /// The datastore.
    pub datastore: String,
    /// The name of the datastore version in the registry of versions.
    pub version: String,
    /// The settings.
    pub settings: Settings,
    /// Incremented by each change of the settings. The service applies it to instances with a lower
    /// revision.
    pub revision: u64,
    /// When the group was created.
    pub created_at: Timestamp,
    /// When the group was last changed.
    pub updated_at: Timestamp,
}
