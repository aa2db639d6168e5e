//! What a process finds when it begins: what its instance became before its caller came to write that down, which the
//! notes tell, and what a former process began beside the server.

use serde::{Deserialize, Serialize};
use trove_core::{error::Result, model::Flavor};

use super::ContainerDatastore;
use crate::container::{
    Engine,
    host_paths::HostPaths,
    state_file::{self, StateFile},
    upgrade_state::ReleaseId,
};

/// A change of the flavor that was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ResizeState {
    pub(super) from: Flavor,
    pub(super) to: Flavor,
}

impl<E: Engine> ContainerDatastore<E> {
    /// Makes the place what it became by the last upgrade and the last resize, where it is still what it was before, and
    /// ends what a former process left at work. Does nothing when it was done before.
    pub(super) async fn adopt(&self) -> Result<()> {
        let mut adopted = self.adopted.lock().await;
        if *adopted {
            return Ok(());
        }
        let upgraded = self.on_disk(HostPaths::upgrade_note).await?.filter(|note| note.concluded);
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
        self.on_disk(HostPaths::sweep_probe).await?;
        *adopted = true;
        Ok(())
    }

    /// Notes that there is nothing to adopt.
    pub(super) async fn begin_anew(&self) {
        *self.adopted.lock().await = true;
    }
}
