//! Other releases, and other sizes, of a server in memory.
//!
//! An image is called `memory:` and its version. One whose name ends in `missing` does not exist, and from one that ends
//! in `broken` no server starts.

use async_trait::async_trait;

use super::{Server, instance::MemoryDatastore};
use crate::{
    datastore::{Cx, Release, Resize, Upgrade},
    error::{Error, Result},
    model::Flavor,
};

/// The series of versions that there are.
pub(super) const SERIES: [&str; 2] = ["1", "2"];

/// An upgrade from which there is a way back.
#[derive(Clone, Debug)]
pub(super) struct Begun {
    from: String,
    to: String,
}

impl Server {
    fn upgrade(&mut self, to: &Release) -> Result<()> {
        match &self.begun {
            Some(begun) if begun.to != to.image => {
                return Err(Error::conflict("another upgrade has to be finished or reverted first"));
            }
            None if self.image != to.image => {
                check(to)?;
                self.begun = Some(Begun { from: self.image.clone(), to: to.image.clone() });
            }
            _ => {}
        }
        self.run_from(to)
    }

    /// Both releases use the data as it is, so that going back is only another start.
    fn revert(&mut self, from: &Release) -> Result<()> {
        match &self.begun {
            Some(begun) if begun.from != from.image => {
                return Err(Error::conflict("the upgrade that has begun is one from another release"));
            }
            None if self.image != from.image => {
                return Err(Error::conflict("the upgrade was concluded, so that there is no way back"));
            }
            _ => self.begun = None,
        }
        self.run_from(from)
    }
}

#[async_trait]
impl Upgrade for MemoryDatastore {
    async fn check(&self, _cx: &Cx, to: &Release) -> Result<()> {
        self.world.call(|_| check(to)).await
    }

    async fn upgrade(&self, cx: &Cx, to: &Release) -> Result<()> {
        cx.phase("upgrade");
        self.world.call(|world| self.server(world)?.upgrade(to)).await
    }

    async fn revert(&self, cx: &Cx, from: &Release) -> Result<()> {
        cx.phase("go back");
        self.world.call(|world| self.server(world)?.revert(from)).await
    }

    async fn commit(&self, _cx: &Cx) -> Result<()> {
        self.world
            .call(|world| {
                self.server(world)?.begun = None;
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

/// Refuses a release that cannot be run.
pub(super) fn check(release: &Release) -> Result<()> {
    let Release { version, image, .. } = release;
    if image.ends_with("missing") {
        return Err(Error::not_found(format!("image {image} does not exist")));
    }
    if !SERIES.contains(&version.split('.').next().unwrap_or_default()) {
        return Err(Error::unsupported(format!("there is no way to version {version}")));
    }
    Ok(())
}
