//! The state of an upgrade, from before its first change until it is reverted or superseded by the
//! next one. Pure.

use serde::{Deserialize, Serialize};
use trove_core::{
    datastore::{GuestHost, Release},
    error::{Error, Result},
};

/// An upgrade that has begun or was committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UpgradeState {
    pub(crate) from: ReleaseId,
    pub(crate) to: ReleaseId,
    /// True if the new release changes the data, so that it is copied first.
    pub(crate) changing: bool,
    /// True if the upgrade cannot be reverted. The state is kept for a caller that failed before
    /// persisting the upgrade and still assumes the old release.
    pub(crate) committed: bool,
}

/// A release without its credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReleaseId {
    pub(crate) version: String,
    pub(crate) image: String,
}

impl UpgradeState {
    /// Refuses to start a release on data that may belong to the other one. `copied` tells whether
    /// there is a complete copy of the old data, which exists from before the new release is
    /// started until the copy is restored.
    pub(crate) fn may_start(&self, release: &ReleaseId, copied: bool) -> Result<()> {
        let known = *release == self.from || *release == self.to;
        let fits = release == if copied { &self.to } else { &self.from };
        if known && (fits || !self.changing) {
            return Ok(());
        }
        let ReleaseId { version, .. } = &self.to;
        Err(Error::conflict(format!("the upgrade to version {version} must be finished or reverted first")))
    }
}

impl From<&GuestHost> for ReleaseId {
    fn from(host: &GuestHost) -> Self {
        Self { version: host.version.clone(), image: host.image.clone() }
    }
}

impl From<&Release> for ReleaseId {
    fn from(release: &Release) -> Self {
        Self { version: release.version.clone(), image: release.image.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_start_only_on_their_own_data() {
        let (old, new, other) = (Release::new("1", "i:1"), Release::new("2", "i:2"), Release::new("1", "i:3"));
        for (changing, copied, release, may) in [
            (true, false, &old, true),
            (true, false, &new, false),
            (true, true, &old, false),
            (true, true, &new, true),
            (false, false, &old, true),
            (false, false, &new, true),
            (false, false, &other, false),
            (true, true, &other, false),
        ] {
            let note = UpgradeState { from: (&old).into(), to: (&new).into(), changing, committed: false };
            let started = note.may_start(&release.into(), copied);
            assert_eq!(started.is_ok(), may, "{changing} {copied} {release:?}");
        }
    }
}
