//! Typed ids: an [`InstanceId`] cannot be passed where an [`OperationId`] is expected.
//!
//! All ids are random version 4 UUIDs, formatted as lower-case hyphenated text.
//!
//! ```
//! use trove_core::id::InstanceId;
//!
//! let id = InstanceId::new_v4();
//! assert_eq!(id.to_string().parse::<InstanceId>()?, id);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

/// Converts typed ids to untyped UUIDs and back.
pub use newtype_uuid::GenericUuid;
use newtype_uuid::{TypedUuid, TypedUuidKind, TypedUuidTag};

/// The type tag of instance ids.
#[derive(Debug)]
pub enum InstanceKind {}

impl TypedUuidKind for InstanceKind {
    fn tag() -> TypedUuidTag {
        const TAG: TypedUuidTag = TypedUuidTag::new("instance");
        TAG
    }
}

/// The type tag of operation ids.
#[derive(Debug)]
pub enum OperationKind {}

impl TypedUuidKind for OperationKind {
    fn tag() -> TypedUuidTag {
        const TAG: TypedUuidTag = TypedUuidTag::new("operation");
        TAG
    }
}

/// The type tag of configuration group ids.
#[derive(Debug)]
pub enum ConfigurationKind {}

impl TypedUuidKind for ConfigurationKind {
    fn tag() -> TypedUuidTag {
        const TAG: TypedUuidTag = TypedUuidTag::new("configuration");
        TAG
    }
}

/// Identifies a configuration group.
pub type ConfigurationId = TypedUuid<ConfigurationKind>;

/// Identifies a database instance. Ids are never reused.
pub type InstanceId = TypedUuid<InstanceKind>;

/// Identifies an operation on an instance. Guests deduplicate requests by it.
pub type OperationId = TypedUuid<OperationKind>;
