//! Typed identifiers: an [`InstanceId`] cannot be passed where an [`OperationId`] is meant.
//!
//! All are random version 4 UUIDs, written as lower-case hyphenated text.
//!
//! ```
//! use trove_core::id::InstanceId;
//!
//! let id = InstanceId::new_v4();
//! assert_eq!(id.to_string().parse::<InstanceId>()?, id);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

/// Turns identifiers into plain UUIDs and back.
pub use newtype_uuid::GenericUuid;
use newtype_uuid::{TypedUuid, TypedUuidKind, TypedUuidTag};

/// Marks the identifiers of instances.
#[derive(Debug)]
pub enum InstanceKind {}

impl TypedUuidKind for InstanceKind {
    fn tag() -> TypedUuidTag {
        const TAG: TypedUuidTag = TypedUuidTag::new("instance");
        TAG
    }
}

/// Marks the identifiers of operations.
#[derive(Debug)]
pub enum OperationKind {}

impl TypedUuidKind for OperationKind {
    fn tag() -> TypedUuidTag {
        const TAG: TypedUuidTag = TypedUuidTag::new("operation");
        TAG
    }
}

/// Marks the identifiers of configuration groups.
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

/// Identifies a database instance, for as long as it exists and after.
pub type InstanceId = TypedUuid<InstanceKind>;

/// Identifies one operation on an instance; also the key by which a guest recognises a repeated request.
pub type OperationId = TypedUuid<OperationKind>;
