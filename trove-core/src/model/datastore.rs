use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// An entry of the registry of versions: a datastore version that instances can run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DatastoreVersion {
    /// The name of the datastore, as its driver declares it.
    pub datastore: String,
    /// The name of the version: `17`, `17-hardened`.
    pub name: String,
    /// The version number, within one of the driver's [series](crate::datastore::Manifest::series):
    /// `17`, `17.5`.
    pub number: String,
    /// The image that its instances run; pinned by `@sha256:...`.
    pub image: String,
    /// The user name for the registry of the image, if it requires a login.
    pub username: Option<String>,
    /// Whether new instances may use this version.
    pub active: bool,
    /// Whether requests without a version use this one. If it is inactive, they use the first
    /// active version.
    pub default: bool,
    /// When the version was added.
    pub created_at: Timestamp,
    /// When the version was last changed.
    pub updated_at: Timestamp,
}
