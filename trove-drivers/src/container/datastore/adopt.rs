//! What an instance became before its caller came to write that down: a process that begins with what it was learns of it
//! from the notes.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use trove_core::{error::Result, model::Flavor};

use super::ContainerDatastore;
use crate::container::{
    Engine,
    notes::{self, Note},
    places::Places,
    upgrade_note::Named,
};

/// A change of the flavor that was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Resized {
    pub(super) from: Flavor,
    pub(super) to: Flavor,
}

impl<E: Engine> ContainerDatastore<E> {
    /// Makes the place what it became by the last upgrade and the last resize, where it is still what it was before.
    pub(super) async fn adopt(&self) -> Result<()> {
        if self.adopted.load(Ordering::Acquire) {
            return Ok(());
        }
        let upgraded = self.on_disk(Places::upgrade_note).await?.filter(|note| note.concluded);
        let resized = self.on_disk(|places| notes::read::<Resized>(&places.resized())).await?;
        self.change_host(|host| {
            if let Some(note) = upgraded.filter(|note| note.from == Named::from(&*host)) {
                (host.version, host.image) = (note.to.version, note.to.image);
            }
            if let Note::Found(Resized { from, to }) = resized
                && host.flavor == from
            {
                host.flavor = to;
            }
        });
        self.adopted.store(true, Ordering::Release);
        Ok(())
    }
}
