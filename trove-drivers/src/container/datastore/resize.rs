//! Changes the resource limits of a server.

use async_trait::async_trait;
use trove_core::{
    datastore::{Cx, Resize},
    error::Result,
    model::Flavor,
};

use super::{ContainerDatastore, adopt::ResizeState};
use crate::container::{Engine, state_file};

#[async_trait]
impl<E: Engine> Resize for ContainerDatastore<E> {
    async fn resize(&self, cx: &Cx, flavor: &Flavor) -> Result<()> {
        let _turn = self.turn(cx).await?;
        self.adopt().await?;
        let before = self.host().flavor.clone();
        self.change_host(|host| host.flavor = flavor.clone());
        let cpus = self.docker.host().await?.cpus;
        let wanted = self.specs.server(&self.host(), cpus).limits();
        let fits = self.containers.look(&self.name).await?.is_some_and(|found| found.limits == wanted);
        if !fits {
            self.take_down(cx, self.engine.stop_limit()).await?;
        }
        self.serve(cx).await?;
        // Another process may start with the old flavor before the caller persists the new one.
        let note = ResizeState { from: before, to: flavor.clone() };
        self.on_disk(move |paths| state_file::write(&paths.resized(), &note)).await
    }
}
