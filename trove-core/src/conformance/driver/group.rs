//! Declarations of cases.

use std::fmt;

use super::ServerFixture;
use crate::conformance::{case::Case, suite::Coverage};

/// Cases on one topic with the same preconditions.
pub(super) struct Group {
    pub(super) name: &'static str,
    pub(super) initial: InitialState,
    pub(super) needs: &'static [Need],
    pub(super) coverage: Coverage,
    pub(super) cases: Vec<Case<ServerFixture>>,
}

/// The state of the host before a case runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InitialState {
    /// A prepared server that other cases use before and after. A case creates only
    /// [unique names](ServerFixture::unique_name) on it, and leaves it running with its original
    /// settings.
    SharedServer,
    /// An empty host for this case alone.
    EmptyHost,
}

/// An ability that cases need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Accounts,
    Databases,
    /// Accounts of an engine without databases.
    NoDatabases,
    /// Users that are distinguished by host.
    Hosts,
    Configuration,
    Upgrade,
    Resize,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accounts => "accounts",
            Self::Databases => "databases",
            Self::NoDatabases => "accounts without databases",
            Self::Hosts => "users with hosts",
            Self::Configuration => "configuration",
            Self::Upgrade => "upgrades",
            Self::Resize => "resizing",
        })
    }
}

impl Group {
    /// Declares cases that run on a shared server.
    pub(super) fn shared(name: &'static str, needs: &'static [Need], cases: Vec<Case<ServerFixture>>) -> Self {
        Self { name, initial: InitialState::SharedServer, needs, coverage: Coverage::Specific, cases }
    }

    /// Declares cases that start with an empty host.
    pub(super) fn empty(name: &'static str, needs: &'static [Need], cases: Vec<Case<ServerFixture>>) -> Self {
        Self { initial: InitialState::EmptyHost, ..Self::shared(name, needs, cases) }
    }

    /// Marks cases that exercise code which drivers usually share. In the quick tier they need not
    /// run on every engine.
    #[must_use]
    pub(super) fn common(self) -> Self {
        Self { coverage: Coverage::Common, ..self }
    }
}
