//! Bugs in upgrades.

use async_trait::async_trait;
use trove_core::{
    datastore::{Cx, Release, Upgrade},
    error::{Error, Result},
};

use crate::{
    bugs::Bug,
    driver::{BuggyDatastore, new_operation},
};

impl BuggyDatastore {
    fn upgrade(&self) -> &dyn Upgrade {
        self.inner.abilities().upgrade.expect("the reference driver has upgrades")
    }
}

#[async_trait]
impl Upgrade for BuggyDatastore {
    async fn check(&self, cx: &Cx, to: &Release) -> Result<()> {
        match self.seeded.bug {
            Bug::AcceptsAnyImage => return Ok(()),
            Bug::UpgradesOnCheck => self.upgrade().upgrade(&new_operation(cx), to).await?,
            _ => {}
        }
        self.upgrade().check(&self.cx(cx), to).await
    }

    async fn upgrade(&self, cx: &Cx, to: &Release) -> Result<()> {
        self.instance_state(|state| state.committed = false);
        self.upgrade().upgrade(&self.cx(cx), to).await?;
        if self.has(Bug::LosesUsersOnUpgrade) {
            self.drop_accounts(cx).await?;
        }
        Ok(())
    }

    async fn revert(&self, cx: &Cx, from: &Release) -> Result<()> {
        if self.has(Bug::IgnoresRevert) {
            return cx.check();
        }
        self.upgrade().revert(&self.cx(cx), from).await
    }

    async fn commit(&self, cx: &Cx) -> Result<()> {
        let committed_before = self.instance_state(|state| std::mem::replace(&mut state.committed, true));
        if self.has(Bug::FailsToCommitTwice) && committed_before {
            return Err(Error::conflict("no upgrade is pending"));
        }
        self.upgrade().commit(&self.cx(cx)).await
    }
}
