use async_trait::async_trait;

use super::Cx;
use crate::{
    error::{Error, Result},
    model::{Database, NewDatabase, NewUser, Page, PageRequest, User, UserName},
    secret::SecretString,
};

/// Manages databases, users and privileges inside an instance, and the tenant's root user.
///
/// Names satisfy the [`AccountRules`](super::AccountRules) before they get here. They may still
/// contain quotes, semicolons, percent signs and any letter, and must reach the server only quoted
/// or as bound parameters. The engine's own accounts and databases are never listed, changed or
/// dropped.
///
/// An engine without [databases](super::AccountRules::databases) keeps the default methods for
/// databases.
///
/// ```
/// # #[cfg(feature = "conformance")]
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// # use trove_core::conformance::{driver::DriverTestbed, memory::World};
/// use trove_core::{
///     datastore::{Cx, Driver, Prepare},
///     id::OperationId,
///     model::{NewDatabase, NewUser, PageRequest},
/// };
///
/// # let testbed = World::new().testbed();
/// # let (driver, host) = (testbed.driver().clone(), testbed.allocate().await?);
/// let datastore = driver.attach(host)?;
/// let cx = Cx::new(OperationId::new_v4(), 1);
/// datastore.prepare(&cx, &Prepare::default()).await?;
/// let accounts = datastore.abilities().accounts.expect("the manifest declares accounts");
/// accounts.create_databases(&cx, &[NewDatabase::new("app")]).await?;
/// accounts.create_users(&cx, &[NewUser::new("ann", "secret").granted("app")]).await?;
/// assert_eq!(accounts.users(&cx, &PageRequest::default()).await?.items[0].databases, ["app"]);
/// accounts.revoke(&cx, &"ann".into(), "app").await?;
/// accounts.drop_user(&cx, &"ann".into()).await?;
/// # Ok::<_, trove_core::error::Error>(()) }).unwrap();
/// ```
#[async_trait]
pub trait Accounts: Send + Sync {
    /// Creates databases. A database that exists is left as it is, unless its character set or
    /// collation differs from the request, which is [`Conflict`](crate::error::Kind::Conflict). A
    /// character set or collation that the server does not know is
    /// [`Invalid`](crate::error::Kind::Invalid).
    async fn create_databases(&self, _cx: &Cx, _databases: &[NewDatabase]) -> Result<()> {
        Err(no_databases())
    }

    /// Lists databases, ordered by name.
    async fn databases(&self, _cx: &Cx, _page: &PageRequest) -> Result<Page<Database>> {
        Ok(Page { items: Vec::new(), next: None })
    }

    /// Drops a database with its content and terminates the connections to it. `Ok` if it is
    /// absent.
    async fn drop_database(&self, _cx: &Cx, _name: &str) -> Result<()> {
        Err(no_databases())
    }

    /// Creates users, all or none. A user that exists is
    /// [`Conflict`](crate::error::Kind::Conflict), a database that does not exist is
    /// [`NotFound`](crate::error::Kind::NotFound).
    async fn create_users(&self, cx: &Cx, users: &[NewUser]) -> Result<()>;

    /// Lists users, ordered by name and host. The [`next`](crate::model::Page::next) of a page is
    /// opaque.
    async fn users(&self, cx: &Cx, page: &PageRequest) -> Result<Page<User>>;

    /// Returns one user, or [`NotFound`](crate::error::Kind::NotFound).
    async fn user(&self, cx: &Cx, user: &UserName) -> Result<User>;

    /// Renames a user or changes its host. Its password and privileges stay; its sessions may end.
    /// [`Conflict`](crate::error::Kind::Conflict) if the new name is taken.
    async fn rename_user(&self, cx: &Cx, user: &UserName, to: &UserName) -> Result<()>;

    /// Changes a user's password. Open sessions stay open.
    async fn set_password(&self, cx: &Cx, user: &UserName, password: &SecretString) -> Result<()>;

    /// Grants a user access to databases. `Ok` if it has access already.
    async fn grant(&self, _cx: &Cx, _user: &UserName, _databases: &[String]) -> Result<()> {
        Err(no_databases())
    }

    /// Revokes a user's access to a database and terminates its sessions there. `Ok` if it has no
    /// access.
    async fn revoke(&self, _cx: &Cx, _user: &UserName, _database: &str) -> Result<()> {
        Err(no_databases())
    }

    /// Drops a user and terminates its sessions. What the user owned stays, with the databases.
    /// `Ok` if the user is absent.
    async fn drop_user(&self, cx: &Cx, user: &UserName) -> Result<()>;

    /// Sets the password of the tenant's root user, enables its login, and returns its name.
    async fn enable_root(&self, cx: &Cx, password: &SecretString) -> Result<String>;

    /// Disables the login of the tenant's root user and terminates its sessions. What it created
    /// stays.
    async fn disable_root(&self, cx: &Cx) -> Result<()>;

    /// Returns true if the tenant's root user can log in.
    async fn root_enabled(&self, cx: &Cx) -> Result<bool>;
}

/// Returns the error of a call about databases to an engine without them.
pub(crate) fn no_databases() -> Error {
    Error::unsupported("this datastore has no databases of its own")
}
