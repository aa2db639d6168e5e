use async_trait::async_trait;

use super::Cx;
use crate::{
    error::{Error, Result},
    model::{Database, NewDatabase, NewUser, Page, PageRequest, User, UserName},
    secret::SecretString,
};

/// Databases, users and rights inside an instance, and the tenant's root.
///
/// Names were checked against the [`AccountRules`](super::AccountRules) already; they may still hold quotes,
/// semicolons, percent signs and any letter, and reach the server only quoted or as bound parameters. The engine's own
/// accounts and databases are never listed, changed or dropped.
///
/// An engine without [databases](super::AccountRules::databases) leaves what is about them as it is here.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// Creates databases; one that exists already is left as it is. One that exists with another character set or
    /// collation than is asked for is [`Conflict`](crate::error::Kind::Conflict), a character set or collation that the
    /// server does not know [`Invalid`](crate::error::Kind::Invalid).
    async fn create_databases(&self, _cx: &Cx, _databases: &[NewDatabase]) -> Result<()> {
        Err(no_databases())
    }

    /// Lists databases in order of name.
    async fn databases(&self, _cx: &Cx, _page: &PageRequest) -> Result<Page<Database>> {
        Ok(Page { items: Vec::new(), next: None })
    }

    /// Drops a database with all it holds, and the connections to it. One that is absent is `Ok`.
    async fn drop_database(&self, _cx: &Cx, _name: &str) -> Result<()> {
        Err(no_databases())
    }

    /// Creates users, all or none. A user that exists already is [`Conflict`](crate::error::Kind::Conflict), a database
    /// that does not [`NotFound`](crate::error::Kind::NotFound).
    async fn create_users(&self, cx: &Cx, users: &[NewUser]) -> Result<()>;

    /// Lists users in order of name, and of host where names are the same. A page's
    /// [`next`](crate::model::Page::next) is opaque.
    async fn users(&self, cx: &Cx, page: &PageRequest) -> Result<Page<User>>;

    /// One user; [`NotFound`](crate::error::Kind::NotFound) where there is none.
    async fn user(&self, cx: &Cx, user: &UserName) -> Result<User>;

    /// Calls a user otherwise, or lets it come from elsewhere; its password and rights stay, its sessions may end.
    /// [`Conflict`](crate::error::Kind::Conflict) where the other name is another user's.
    async fn rename_user(&self, cx: &Cx, user: &UserName, to: &UserName) -> Result<()>;

    /// Changes a user's password. Sessions that are open stay open.
    async fn set_password(&self, cx: &Cx, user: &UserName, password: &SecretString) -> Result<()>;

    /// Lets a user use databases; a right it has already stays.
    async fn grant(&self, _cx: &Cx, _user: &UserName, _databases: &[String]) -> Result<()> {
        Err(no_databases())
    }

    /// Takes a database from a user, and ends its sessions there; a right it does not have is `Ok`.
    async fn revoke(&self, _cx: &Cx, _user: &UserName, _database: &str) -> Result<()> {
        Err(no_databases())
    }

    /// Drops a user and ends its sessions. What it owned stays, with the databases. One that is absent is `Ok`.
    async fn drop_user(&self, cx: &Cx, user: &UserName) -> Result<()>;

    /// Gives the tenant's root this password and lets it log in; returns its name.
    async fn enable_root(&self, cx: &Cx, password: &SecretString) -> Result<String>;

    /// Keeps the tenant's root from logging in, and ends its sessions. What it made stays.
    async fn disable_root(&self, cx: &Cx) -> Result<()>;

    /// True where the tenant's root may log in.
    async fn root_enabled(&self, cx: &Cx) -> Result<bool>;
}

/// The error of a call that is about databases where there are none.
pub(crate) fn no_databases() -> Error {
    Error::unsupported("this datastore has no databases of its own")
}
