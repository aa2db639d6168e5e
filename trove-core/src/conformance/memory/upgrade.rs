//! Upgrades and resizes of an in-memory server.
//!
//! An image is named `memory:VERSION`. An image whose name ends in `missing` does not exist, and a
//! server does not start from one whose name ends in `broken`.

use async_trait::async_trait;

use super::{Server, datastore::MemoryDatastore};
use crate::{
    datastore::{Cx, Release, Resize, Upgrade},
    error::{Error, Result},
    model::Flavor,
};

/// The supported series.
pub(super) const SERIES: [&str; 2] = ["1", "2"];

/// An upgrade that can be reverted, by the images before and after it.
#[derive(Clone, Debug)]
pub(super) struct PendingUpgrade {
    from: String,
    to: String,
}

impl Server {
    fn upgrade(&mut self, to: &Release) -> Result<()> {
        match &self.pending_upgrade {
            Some(pending) if pending.to != to.image => {
                return Err(Error::conflict("another upgrade is pending; commit or revert it first"));
            }
            None if self.image != to.image => {
                check_release(to)?;
                self.pending_upgrade = Some(PendingUpgrade { from: self.image.clone(), to: to.image.clone() });
            }
            _ => {}
        }
        self.switch_release(to)
    }

    /// Reverts an upgrade. All releases use the same data format, so that a restart suffices.
    fn revert(&mut self, from: &Release) -> Result<()> {
        match &self.pending_upgrade {
            Some(pending) if pending.from != from.image => {
                return Err(Error::conflict("the pending upgrade started from another release"));
            }
            None if self.image != from.image => {
                return Err(Error::conflict("the upgrade was committed and cannot be reverted"));
            }
            _ => self.pending_upgrade = None,
        }
        self.switch_release(from)
    }
}

#[async_trait]
impl Upgrade for MemoryDatastore {
    async fn check(&self, _cx: &Cx, to: &Release) -> Result<()> {
        self.world.call(|_| check_release(to)).await
    }

    async fn upgrade(&self, cx: &Cx, to: &Release) -> Result<()> {
        cx.phase("upgrade");
        self.world.call(|world| self.server(world)?.upgrade(to)).await
    }

    async fn revert(&self, cx: &Cx, from: &Release) -> Result<()> {
        cx.phase("revert upgrade");
        self.world.call(|world| self.server(world)?.revert(from)).await
    }

    async fn commit(&self, _cx: &Cx) -> Result<()> {
        self.world
            .call(|world| {
                self.server(world)?.pending_upgrade = None;
                Ok(())
            })
            .await
    }
}

#[async_trait]
impl Resize for MemoryDatastore {
    async fn resize(&self, cx: &Cx, flavor: &Flavor) -> Result<()> {
        cx.phase("start server");
        self.world.call(|world| self.server(world)?.resize(flavor.memory)).await
    }
}

/// Returns an error if the image does not exist or the version is not supported.
pub(super) fn check_release(release: &Release) -> Result<()> {
    let Release { version, image, .. } = release;
    if image.ends_with("missing") {
        return Err(Error::not_found(format!("image {image} does not exist")));
    }
    if !SERIES.contains(&version.split('.').next().unwrap_or_default()) {
        return Err(Error::unsupported(format!("version {version} is not supported")));
    }
    Ok(())
}
