//! Other limits for a server.

use async_trait::async_trait;
use trove_core::{
    datastore::{Cx, Resize},
    error::Result,
    model::Flavor,
};

use super::ContainerDatastore;
use crate::container::{Engine, spec};

#[async_trait]
impl<E: Engine> Resize for ContainerDatastore<E> {
    async fn resize(&self, cx: &Cx, flavor: &Flavor) -> Result<()> {
        let _turn = self.turn(cx).await?;
        self.change_host(|host| host.flavor = flavor.clone());
        let cpus = self.docker.host().await?.cpus;
        let wanted = spec::server(&self.host(), &*self.engine, &self.places, cpus).limits();
        let fits = self.containers.look(&self.name).await?.is_some_and(|found| found.limits == wanted);
        if !fits {
            cx.phase("stop server");
            self.take_down().await?;
        }
        self.serve(cx).await
    }
}
