//! Bugs of settings, releases and sizes.

use async_trait::async_trait;
use trove_core::{
    datastore::{Configuration, Cx, Release, Resize, Upgrade},
    error::{Error, Result},
    model::{Flavor, ParameterCatalog, Settings},
};

use crate::{
    bugs::Bug,
    driver::{Faulty, another},
};

impl Faulty {
    fn configuration(&self) -> &dyn Configuration {
        self.inner.abilities().configuration.expect("the reference has settings")
    }

    fn upgrade(&self) -> &dyn Upgrade {
        self.inner.abilities().upgrade.expect("the reference is upgraded")
    }

    fn resize(&self) -> &dyn Resize {
        self.inner.abilities().resize.expect("the reference is resized")
    }
}

#[async_trait]
impl Configuration for Faulty {
    async fn digest(&self, cx: &Cx) -> Result<String> {
        self.configuration().digest(&self.cx(cx)).await
    }

    async fn catalog(&self, cx: &Cx) -> Result<ParameterCatalog> {
        let mut catalog = self.configuration().catalog(&self.cx(cx)).await?;
        let read = self.known(|known| {
            known.catalogs += 1;
            known.catalogs
        });
        match self.faults.bug {
            Bug::ReturnsAnotherCatalogEachTime if read.is_multiple_of(2) => drop(catalog.parameters.pop()),
            Bug::MeasuresInNonsense => {
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
        match self.faults.bug {
            Bug::IgnoresASetting => drop(settings.remove("max_rows")),
            Bug::KeepsWhatWasTakenAway => self.known(|known| {
                let mut all = known.settings.clone();
                all.extend(settings.clone());
                settings.clone_from(&all);
                known.settings = all;
            }),
            _ => {}
        }
        let applied = self.configuration().apply(&self.cx(cx), &settings).await;
        match self.faults.bug {
            Bug::AppliesHalfOfWhatIsRefused if applied.is_err() => {
                settings.remove("locale");
                // What came first was done.
                let _ = self.configuration().apply(&another(cx), &settings).await;
            }
            Bug::RestartsToApply if applied.is_ok() => self.restart(cx).await?,
            _ => {}
        }
        applied
    }
}

#[async_trait]
impl Upgrade for Faulty {
    async fn check(&self, cx: &Cx, to: &Release) -> Result<()> {
        match self.faults.bug {
            Bug::TakesAnyImage => return Ok(()),
            Bug::ChecksByUpgrading => self.upgrade().upgrade(&another(cx), to).await?,
            _ => {}
        }
        self.upgrade().check(&self.cx(cx), to).await
    }

    async fn upgrade(&self, cx: &Cx, to: &Release) -> Result<()> {
        self.known(|known| known.concluded = false);
        self.upgrade().upgrade(&self.cx(cx), to).await?;
        if self.has(Bug::UpgradesWithoutUsers) {
            self.forget_accounts(cx).await?;
        }
        Ok(())
    }

    async fn revert(&self, cx: &Cx, from: &Release) -> Result<()> {
        if self.has(Bug::GoesBackToNothing) {
            return cx.check();
        }
        self.upgrade().revert(&self.cx(cx), from).await
    }

    async fn commit(&self, cx: &Cx) -> Result<()> {
        let concluded = self.known(|known| std::mem::replace(&mut known.concluded, true));
        if self.has(Bug::CannotConcludeTwice) && concluded {
            return Err(Error::conflict("there is nothing to conclude"));
        }
        self.upgrade().commit(&self.cx(cx)).await
    }
}

#[async_trait]
impl Resize for Faulty {
    async fn resize(&self, cx: &Cx, flavor: &Flavor) -> Result<()> {
        self.resize().resize(&self.cx(cx), flavor).await?;
        match self.faults.bug {
            Bug::ResizesWithoutData => self.wipe(cx).await?,
            Bug::ResizesForNothing => self.restart(cx).await?,
            Bug::ResizesWithoutSettings => self.configuration().apply(&another(cx), &Settings::new()).await?,
            _ => {}
        }
        Ok(())
    }
}
