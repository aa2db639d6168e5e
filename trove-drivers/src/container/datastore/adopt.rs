//! Takes over what an earlier process left: upgrades and resizes that were made but not yet
//! persisted by the caller, and containers that are still running beside the server.

use serde::{Deserialize, Serialize};
use trove_core::{error::Result, model::Flavor};

use super::ContainerDatastore;
use crate::container::{
    Engine,
    host_paths::HostPaths,
    state_file::{self, StateFile},
    upgrade_state::ReleaseId,
};

/// A completed change of the flavor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ResizeState {
    pub(super) from: Flavor,
    pub(super) to: Flavor,
}

impl<E: Engine> ContainerDatastore<E> {
    /// Applies the last upgrade and the last resize to the instance's properties if those are still
    /// the old ones, and removes what an earlier process left running. Does nothing if it was done
    /// before.
    pub(super) async fn adopt(&self) -> Result<()> {
        let mut adopted = self.adopted.lock().await;
        if *adopted {
            return Ok(());
        }
        let upgraded = self.on_disk(HostPaths::upgrade_state).await?.filter(|note| note.committed);
        let resized = self.on_disk(|paths| state_file::read::<ResizeState>(&paths.resized())).await?;
        self.change_host(|host| {
            if let Some(note) = upgraded.filter(|note| note.from == ReleaseId::from(&*host)) {
                (host.version, host.image) = (note.to.version, note.to.image);
            }
            if let StateFile::Found(ResizeState { from, to }) = resized
                && host.flavor == from
            {
                host.flavor = to;
            }
        });
        self.containers.remove_beside(&self.name).await?;
        self.on_disk(HostPaths::sweep_scratch).await?;
        *adopted = true;
        Ok(())
    }

    /// Records that there is nothing to take over.
    pub(super) async fn skip_adoption(&self) {
        *self.adopted.lock().await = true;
    }
}
