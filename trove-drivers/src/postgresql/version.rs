//! What the major versions of the server do differently. Each difference has its name here and nowhere a number.

use std::fmt;

use trove_core::error::{Error, Result};

use crate::container::UpgradePath;

/// The major version of a server, on which the format of its data depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MajorVersion(u32);

impl MajorVersion {
    /// That of a version such as `17` or `17.5`.
    pub(super) fn of(version: &str) -> Self {
        Self(version.split('.').next().and_then(|number| number.parse().ok()).unwrap_or_default())
    }

    /// The directory for which the official image declares a volume; a mount elsewhere would leave one of the engine's
    /// own beside or below it.
    pub(super) fn volume_target(self) -> &'static str {
        if self.0 >= 18 { "/var/lib/postgresql" } else { "/var/lib/postgresql/data" }
    }

    /// True where the server has locales of its own, which stay the same whatever the system's are.
    pub(super) fn has_builtin_locales(self) -> bool {
        self.0 >= 17
    }

    /// Those locales that it has.
    pub(super) fn builtin_locales(self) -> &'static [&'static str] {
        match self.0 {
            ..17 => &[],
            17 => &["C.UTF-8"],
            18.. => &["C.UTF-8", "PG_UNICODE_FAST"],
        }
    }

    /// True where `ALTER SYSTEM` can be switched off for everybody. Before, only a superuser may use it.
    pub(super) fn can_forbid_alter_system(self) -> bool {
        self.0 >= 17
    }

    /// True where a transaction can be limited in time.
    pub(super) fn limits_transactions(self) -> bool {
        self.0 >= 17
    }

    /// True where there is a role that may maintain, and so lock, everything.
    pub(super) fn has_maintainers(self) -> bool {
        self.0 >= 17
    }

    /// True where `CREATEROLE` is a right over the roles that were made by it. Before, it is one over all roles but
    /// superusers: who has it may become `pg_execute_server_program`, and with that the operating system's user.
    pub(super) fn bounds_role_makers(self) -> bool {
        self.0 >= 16
    }

    /// True where a membership may be had from several grantors, and belongs to each.
    pub(super) fn keeps_grantors(self) -> bool {
        self.0 >= 16
    }

    /// How a server of this version becomes one of another.
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
    fn only_the_same_major_version_uses_the_data() {
        for (from, to) in [("17", "17.5"), ("17.9", "17.2"), ("15.1", "15")] {
            assert_eq!(MajorVersion::of(from).upgrade_path(MajorVersion::of(to)).unwrap(), UpgradePath::Compatible);
        }
        let error = MajorVersion::of("15.3").upgrade_path(MajorVersion::of("17")).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.to_string().contains("PostgreSQL 17 cannot use the data of PostgreSQL 15"), "{error}");
        assert!(MajorVersion::of("18").upgrade_path(MajorVersion::of("17")).is_err());
    }
}
