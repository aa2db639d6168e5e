//! Bugs in resizes.

use async_trait::async_trait;
use trove_core::{
    datastore::{Cx, Resize},
    error::Result,
    model::{Flavor, Settings},
};

use crate::{
    bugs::Bug,
    driver::{BuggyDatastore, new_operation},
};

impl BuggyDatastore {
    fn resize(&self) -> &dyn Resize {
        self.inner.abilities().resize.expect("the reference driver has resizes")
    }
}

#[async_trait]
impl Resize for BuggyDatastore {
    async fn resize(&self, cx: &Cx, flavor: &Flavor) -> Result<()> {
        self.resize().resize(&self.cx(cx), flavor).await?;
        match self.seeded.bug {
            Bug::LosesDataOnResize => self.wipe(cx).await?,
            Bug::RestartsOnUnchangedSize => self.restart(cx).await?,
            Bug::LosesSettingsOnResize => self.configuration().apply(&new_operation(cx), &Settings::new()).await?,
            _ => {}
        }
        Ok(())
    }
}
