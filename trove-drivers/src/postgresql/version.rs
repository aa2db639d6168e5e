//! The differences between major versions, each by name, so that no other module compares numbers.

use std::fmt;

use trove_core::error::{Error, Result};

use crate::container::UpgradePath;

/// The major version of a server, which determines the format of its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MajorVersion(u32);

impl MajorVersion {
    /// Returns the major version of a version such as `17` or `17.5`.
    pub(super) fn of(version: &str) -> Self {
        Self(version.split('.').next().and_then(|number| number.parse().ok()).unwrap_or_default())
    }

    /// Returns the directory for which the official image declares a volume; a mount elsewhere
    /// would leave an anonymous volume beside or below it.
    pub(super) fn volume_target(self) -> &'static str {
        if self.0 >= 18 { "/var/lib/postgresql" } else { "/var/lib/postgresql/data" }
    }

    /// Returns true if the server has built-in locales, which do not depend on the system's.
    pub(super) fn has_builtin_locales(self) -> bool {
        self.0 >= 17
    }

    /// Returns the built-in locales.
    pub(super) fn builtin_locales(self) -> &'static [&'static str] {
        match self.0 {
            ..17 => &[],
            17 => &["C.UTF-8"],
            18.. => &["C.UTF-8", "PG_UNICODE_FAST"],
        }
    }

    /// Returns true if `ALTER SYSTEM` can be disabled. Before, only superusers could use it.
    pub(super) fn can_forbid_alter_system(self) -> bool {
        self.0 >= 17
    }

    /// Returns true if transactions can have a time limit.
    pub(super) fn limits_transactions(self) -> bool {
        self.0 >= 17
    }

    /// Returns true if there is `pg_maintain`, whose members can lock everything.
    pub(super) fn has_maintainers(self) -> bool {
        self.0 >= 17
    }

    /// Returns true if `CREATEROLE` covers only the roles that were created with it. Before, it
    /// covered all roles except superusers: a role that had it could become
    /// `pg_execute_server_program`, and thereby the operating system's user.
    pub(super) fn bounds_role_makers(self) -> bool {
        self.0 >= 16
    }

    /// Returns true if a membership can have several grantors, of which each can revoke only its
    /// own.
    pub(super) fn keeps_grantors(self) -> bool {
        self.0 >= 16
    }

    /// Returns the upgrade path to another version.
    pub(super) fn upgrade_path(self, to: Self) -> Result<UpgradePath> {
        if self == to {
            return Ok(UpgradePath::Compatible);
        }
        Err(Error::unsupported(format!(
            "PostgreSQL {to} cannot use the data of PostgreSQL {self}: create an instance of version {to} and bring the \
             data over with pg_dump and pg_restore"
        )))
    }
}

impl fmt::Display for MajorVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use trove_core::error::Kind;

    use super::*;

    #[test]
    fn data_is_compatible_within_a_major_version_only() {
        for (from, to) in [("17", "17.5"), ("17.9", "17.2"), ("15.1", "15")] {
            assert_eq!(MajorVersion::of(from).upgrade_path(MajorVersion::of(to)).unwrap(), UpgradePath::Compatible);
        }
        let error = MajorVersion::of("15.3").upgrade_path(MajorVersion::of("17")).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.to_string().contains("PostgreSQL 17 cannot use the data of PostgreSQL 15"), "{error}");
        assert!(MajorVersion::of("18").upgrade_path(MajorVersion::of("17")).is_err());
    }
}
