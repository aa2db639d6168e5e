use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A version of a datastore that instances can be made of, as the registry of versions holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DatastoreVersion {
    /// The datastore, as its driver calls it.
    pub datastore: String,
    /// What the version is called: `17`, `17-hardened`.
    pub name: String,
    /// Its number, of one of the driver's [series](crate::datastore::Manifest::series): `17`, `17.5`.
    pub number: String,
    /// The image that its instances are made from; with `@sha256:...` exactly this one.
    pub image: String,
    /// Who signs in to the image's registry, where that is needed.
    pub username: Option<String>,
    /// False where no new instances are made of it.
    pub active: bool,
    /// True where it is the one of a request that names none, as long as it is active; then the first active one is.
    pub default: bool,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}
