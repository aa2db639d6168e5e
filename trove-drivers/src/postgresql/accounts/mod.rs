//! Databases, users and privileges inside a server, and the tenant's root.
//!
//! A database belongs to a role that cannot log in, `trove_owner_<oid of the database>`. A user
//! gets access by membership in that role, and its sessions in the database start as that role. So
//! objects in a database belong to all of its users, and nothing is lost with a user.
//!
//! Objects that the tenant's root creates outside the service are adopted on first request: see
//! `owners::owner`.

mod databases;
mod drops;
mod owners;
mod roles;
mod root;
mod text;
mod users;

use std::sync::Arc;

use async_trait::async_trait;
use trove_core::{
    datastore::{Accounts, Cx, Prepare},
    error::{Error, Result},
    model::{Database, NewDatabase, NewUser, Page, PageRequest, User, UserName},
    secret::{ExposeSecret, SecretString},
};

use super::connection::AdminConnector;
use crate::container::AdminCalls;

/// The accounts of one server.
#[derive(Debug)]
pub(super) struct PostgreSqlAccounts {
    admin: Arc<AdminConnector>,
    calls: AdminCalls,
}

impl PostgreSqlAccounts {
    pub(super) fn new(admin: Arc<AdminConnector>) -> Self {
        Self { admin, calls: AdminCalls::default() }
    }

    /// Creates databases and users, or makes existing ones match.
    pub(super) async fn provision(&self, cx: &Cx, spec: &Prepare) -> Result<()> {
        self.calls
            .change(cx, async {
                // Only the administrator may use the server's own databases.
                let session = self.admin.change_session().await?;
                session
                    .run(
                        "REVOKE CONNECT, TEMPORARY ON DATABASE postgres FROM PUBLIC; \
                     REVOKE CONNECT, TEMPORARY ON DATABASE template1 FROM PUBLIC",
                    )
                    .await?;
                for database in &spec.databases {
                    databases::create(&session, database).await?;
                }
                users::ensure(session, &spec.users).await
            })
            .await
    }
}

#[async_trait]
impl Accounts for PostgreSqlAccounts {
    async fn create_databases(&self, cx: &Cx, databases: &[NewDatabase]) -> Result<()> {
        self.calls
            .change(cx, async {
                let session = self.admin.change_session().await?;
                for database in databases {
                    databases::create(&session, database).await?;
                }
                Ok(())
            })
            .await
    }

    async fn databases(&self, cx: &Cx, page: &PageRequest) -> Result<Page<Database>> {
        self.calls.read(cx, async { databases::list(&self.admin.session("postgres").await?, page).await }).await
    }

    async fn drop_database(&self, cx: &Cx, name: &str) -> Result<()> {
        self.calls.change(cx, databases::remove(&self.admin, name)).await
    }

    async fn create_users(&self, cx: &Cx, users: &[NewUser]) -> Result<()> {
        self.calls.change(cx, async { users::create(self.admin.change_session().await?, users).await }).await
    }

    async fn users(&self, cx: &Cx, page: &PageRequest) -> Result<Page<User>> {
        self.calls.read(cx, async { users::list(&self.admin.session("postgres").await?, page).await }).await
    }

    async fn user(&self, cx: &Cx, user: &UserName) -> Result<User> {
        self.calls.read(cx, async { users::find(&self.admin.session("postgres").await?, &user.name).await }).await
    }

    async fn rename_user(&self, cx: &Cx, user: &UserName, to: &UserName) -> Result<()> {
        self.calls
            .change(cx, async { users::rename(&self.admin.change_session().await?, &user.name, &to.name).await })
            .await
    }

    async fn set_password(&self, cx: &Cx, user: &UserName, password: &SecretString) -> Result<()> {
        self.calls
            .change(cx, async { users::set_password(&self.admin.change_session().await?, &user.name, password).await })
            .await
    }

    async fn grant(&self, cx: &Cx, user: &UserName, databases: &[String]) -> Result<()> {
        self.calls
            .change(cx, async { users::grant(self.admin.change_session().await?, &user.name, databases).await })
            .await
    }

    async fn revoke(&self, cx: &Cx, user: &UserName, database: &str) -> Result<()> {
        self.calls
            .change(cx, async { users::revoke(self.admin.change_session().await?, &user.name, database).await })
            .await
    }

    async fn drop_user(&self, cx: &Cx, user: &UserName) -> Result<()> {
        self.calls.change(cx, users::remove(&self.admin, &user.name)).await
    }

    async fn enable_root(&self, cx: &Cx, password: &SecretString) -> Result<String> {
        self.calls.change(cx, async { root::enable(self.admin.change_session().await?, password).await }).await
    }

    async fn disable_root(&self, cx: &Cx) -> Result<()> {
        self.calls.change(cx, async { root::disable(&self.admin.change_session().await?).await }).await
    }

    async fn root_enabled(&self, cx: &Cx) -> Result<bool> {
        self.calls.read(cx, async { root::enabled(&self.admin.session("postgres").await?).await }).await
    }
}

/// Returns the verifier that the server stores, so that the password itself never reaches the
/// server or its log.
async fn verifier(password: &SecretString) -> Result<String> {
    let password = password.clone();
    let hashed = tokio::task::spawn_blocking(move || {
        postgres_protocol::password::scram_sha_256(password.expose_secret().as_bytes())
    });
    hashed.await.map_err(|error| Error::internal("a password could not be hashed").with_source(error))
}

/// Returns how many entries to fetch for a page: one more, to know whether there are further ones.
fn fetch_limit(page: &PageRequest) -> i64 {
    i64::from(page.limit.clamp(1, 1000)) + 1
}
