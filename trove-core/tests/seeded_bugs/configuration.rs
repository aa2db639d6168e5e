//! Bugs in configuration.

use async_trait::async_trait;
use trove_core::{
    datastore::{Configuration, Cx},
    error::Result,
    model::{ParameterCatalog, Settings},
};

use crate::{
    bugs::Bug,
    driver::{BuggyDatastore, new_operation},
};

impl BuggyDatastore {
    pub(crate) fn configuration(&self) -> &dyn Configuration {
        self.inner.abilities().configuration.expect("the reference driver has configuration")
    }
}

#[async_trait]
impl Configuration for BuggyDatastore {
    async fn digest(&self, cx: &Cx) -> Result<String> {
        self.configuration().digest(&self.cx(cx)).await
    }

    async fn catalog(&self, cx: &Cx) -> Result<ParameterCatalog> {
        let mut catalog = self.configuration().catalog(&self.cx(cx)).await?;
        let reads = self.instance_state(|state| {
            state.catalog_reads += 1;
            state.catalog_reads
        });
        match self.seeded.bug {
            Bug::ReturnsUnstableCatalog if reads.is_multiple_of(2) => drop(catalog.parameters.pop()),
            Bug::DeclaresUnknownUnits => {
                for parameter in &mut catalog.parameters {
                    parameter.unit = Some("furlong".to_owned());
                }
            }
            _ => {}
        }
        Ok(catalog)
    }

    async fn apply(&self, cx: &Cx, settings: &Settings) -> Result<()> {
        let mut settings = settings.clone();
        match self.seeded.bug {
            Bug::IgnoresSetting => drop(settings.remove("max_rows")),
            Bug::KeepsRemovedSettings => self.instance_state(|state| {
                let mut all = state.settings.clone();
                all.extend(settings.clone());
                settings.clone_from(&all);
                state.settings = all;
            }),
            _ => {}
        }
        let applied = self.configuration().apply(&self.cx(cx), &settings).await;
        match self.seeded.bug {
            Bug::AppliesRejectedSettingsPartially if applied.is_err() => {
                settings.remove("locale");
                // The parameters before the rejected one take effect.
                let _ = self.configuration().apply(&new_operation(cx), &settings).await;
            }
            Bug::RestartsServerOnApply if applied.is_ok() => self.restart(cx).await?,
            _ => {}
        }
        applied
    }
}
