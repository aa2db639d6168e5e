use std::time::Duration;

use async_trait::async_trait;
use trove_core::{
    datastore::Cx,
    error::{Error, Result},
};

use super::ContainerDatastore;
use crate::{
    container::{Engine, Helper, containers::CommandOutput},
    docker::printable_tail,
};

/// How long a program in a helper container may take.
const HELPER_LIMIT: Duration = Duration::from_secs(3600);

/// Runs programs of an instance's image in a container beside its server.
pub(super) struct HelperContainer<'a, E>(pub(super) &'a ContainerDatastore<E>);

#[async_trait]
impl<E: Engine> Helper for HelperContainer<'_, E> {
    async fn run(&self, cx: &Cx, command: Vec<String>) -> Result<String> {
        let Self(datastore) = self;
        let cpus = datastore.docker.host().await?.cpus;
        let spec = datastore.specs.helper(&datastore.host(), cpus, command);
        match datastore.containers.run(cx, spec, HELPER_LIMIT).await? {
            CommandOutput::Ended { code: 0, output } => Ok(output),
            CommandOutput::Ended { code, output } => {
                let failed = Error::internal(format!("a program of the image exited with code {code}"));
                Err(failed.with("output", printable_tail(&output)))
            }
            CommandOutput::NoProgram => Err(Error::internal("the image lacks a program that the server needs")),
        }
    }
}
