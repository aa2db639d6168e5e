//! How cases are declared.

use super::ServerFixture;
use crate::conformance::{case::Case, suite::Coverage};

/// Cases on one topic.
pub(super) struct Group {
    pub(super) name: &'static str,
    pub(super) server: Server,
    pub(super) needs: &'static [Need],
    pub(super) coverage: Coverage,
    pub(super) cases: Vec<Case<ServerFixture>>,
}

/// The server that a case begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    /// One that is prepared, and used by other cases before and after. A case creates only
    /// [unique names](ServerFixture::unique_name) on it, and leaves it running with the settings it had.
    Shared,
    /// None: there is an empty host.
    Absent,
}

/// An ability that cases need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Accounts,
    Databases,
    Configuration,
    Upgrade,
    Resize,
}

impl Group {
    /// Cases on a shared server.
    pub(super) fn shared(name: &'static str, needs: &'static [Need], cases: Vec<Case<ServerFixture>>) -> Self {
        Self { name, server: Server::Shared, needs, coverage: Coverage::Specific, cases }
    }

    /// Cases on an empty host.
    pub(super) fn empty(name: &'static str, needs: &'static [Need], cases: Vec<Case<ServerFixture>>) -> Self {
        Self { server: Server::Absent, ..Self::shared(name, needs, cases) }
    }

    /// Marks cases of what drivers usually share: they need not run on each engine in the quick tier.
    #[must_use]
    pub(super) fn shared_by_drivers(self) -> Self {
        Self { coverage: Coverage::Shared, ..self }
    }
}
