//! Databases, users and privileges inside a server, and the tenant's root.
//!
//! Statements that change accounts are not transactional. So a new account is created under a draft
//! name and renamed when it is complete; drafts of an interrupted call are removed by the next.

mod account;
mod databases;
mod definers;
mod privileges;
mod root;
mod sessions;
mod users;

use std::path::PathBuf;

use async_trait::async_trait;
use trove_core::{
    datastore::{Accounts, Cx, Prepare},
    error::Result,
    model::{Database, NewDatabase, NewUser, Page, PageRequest, User, UserName},
    secret::SecretString,
};

use super::{AdminConnector, Dialect};
use crate::container::{AdminCalls, blocking};

/// The accounts of one server.
#[derive(Debug)]
pub(crate) struct FamilyAccounts<D> {
    admin: AdminConnector<D>,
    calls: AdminCalls,
}

impl<D: Dialect> FamilyAccounts<D> {
    /// Returns the accounts of the server that runs as this user and has its sockets in this
    /// directory of the host.
    pub(crate) fn new(sockets: PathBuf, server: u32) -> Self {
        Self { admin: AdminConnector::new(sockets, server), calls: AdminCalls::default() }
    }

    pub(crate) fn admin(&self) -> &AdminConnector<D> {
        &self.admin
    }

    /// Creates databases and users, or makes existing ones match.
    pub(crate) async fn provision(&self, cx: &Cx, spec: &Prepare) -> Result<()> {
        self.calls
            .change(cx, async {
                let mut session = self.admin.change_session().await?;
                databases::create::<D>(&mut session, &spec.databases).await?;
                users::ensure::<D>(&mut session, &spec.users).await
            })
            .await
    }
}

#[async_trait]
impl<D: Dialect> Accounts for FamilyAccounts<D> {
    async fn create_databases(&self, cx: &Cx, databases: &[NewDatabase]) -> Result<()> {
        let work = async { databases::create::<D>(&mut self.admin.change_session().await?, databases).await };
        self.calls.change(cx, work).await
    }

    async fn databases(&self, cx: &Cx, page: &PageRequest) -> Result<Page<Database>> {
        self.calls.read(cx, async { databases::list(&mut self.admin.session().await?, page).await }).await
    }

    async fn drop_database(&self, cx: &Cx, name: &str) -> Result<()> {
        let work = async { databases::remove::<D>(&mut self.admin.change_session().await?, name).await };
        self.calls.change(cx, work).await
    }

    async fn create_users(&self, cx: &Cx, users: &[NewUser]) -> Result<()> {
        let work = async { users::create::<D>(&mut self.admin.change_session().await?, users).await };
        self.calls.change(cx, work).await
    }

    async fn users(&self, cx: &Cx, page: &PageRequest) -> Result<Page<User>> {
        self.calls.read(cx, async { users::list::<D>(&mut self.admin.session().await?, page).await }).await
    }

    async fn user(&self, cx: &Cx, user: &UserName) -> Result<User> {
        self.calls.read(cx, async { users::find::<D>(&mut self.admin.session().await?, user).await }).await
    }

    async fn rename_user(&self, cx: &Cx, user: &UserName, to: &UserName) -> Result<()> {
        let work = async { users::rename::<D>(&mut self.admin.change_session().await?, user, to).await };
        self.calls.change(cx, work).await
    }

    async fn set_password(&self, cx: &Cx, user: &UserName, password: &SecretString) -> Result<()> {
        let work = async { users::set_password::<D>(&mut self.admin.change_session().await?, user, password).await };
        self.calls.change(cx, work).await
    }

    async fn grant(&self, cx: &Cx, user: &UserName, databases: &[String]) -> Result<()> {
        let work = async { users::grant::<D>(&mut self.admin.change_session().await?, user, databases).await };
        self.calls.change(cx, work).await
    }

    async fn revoke(&self, cx: &Cx, user: &UserName, database: &str) -> Result<()> {
        let work = async { users::revoke::<D>(&mut self.admin.change_session().await?, user, database).await };
        self.calls.change(cx, work).await
    }

    async fn drop_user(&self, cx: &Cx, user: &UserName) -> Result<()> {
        let work = async { users::remove::<D>(&mut self.admin.change_session().await?, user).await };
        self.calls.change(cx, work).await
    }

    async fn enable_root(&self, cx: &Cx, password: &SecretString) -> Result<String> {
        let work = async { root::enable::<D>(&mut self.admin.change_session().await?, password).await };
        self.calls.change(cx, work).await
    }

    async fn disable_root(&self, cx: &Cx) -> Result<()> {
        self.calls.change(cx, async { root::disable::<D>(&mut self.admin.change_session().await?).await }).await
    }

    async fn root_enabled(&self, cx: &Cx) -> Result<bool> {
        self.calls.read(cx, async { root::enabled::<D>(&mut self.admin.session().await?).await }).await
    }
}

/// Hashes a password on the blocking thread pool.
async fn password<D: Dialect>(password: &SecretString) -> Result<String> {
    let password = password.clone();
    blocking(move || D::password(&password)).await
}
