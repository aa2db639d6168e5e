use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::id::ConfigurationId;

/// The settings that an instance was given, and the group and revision that they are of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GivenSettings {
    /// The group and its revision; `None` where they are of none.
    pub group: Option<(ConfigurationId, u64)>,
    /// The settings.
    pub settings: Settings,
}

impl From<&ConfigurationGroup> for GivenSettings {
    fn from(group: &ConfigurationGroup) -> Self {
        Self { group: Some((group.id, group.revision)), settings: group.settings.clone() }
    }
}

/// Settings under a name, for any number of instances of one datastore version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ConfigurationGroup {
    /// Its identity.
    pub id: ConfigurationId,
    /// The tenant it belongs to.
    pub project: String,
    /// What its owner calls it.
    pub name: String,
    /// What its owner says of it.
    pub description: String,
    /// The datastore it is for.
    pub datastore: String,
    /// The version of the datastore it is for, as the registry of versions calls it.
    pub version: String,
    /// What it sets.
    pub settings: Settings,
    /// Grows with each change of the settings; an instance that was given a lower one is given this one soon.
    pub revision: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}
