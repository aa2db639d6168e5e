use super::{Trove, new_instance};
use crate::{
    datastore::AccountRules,
    error::{Error, Kind, Result},
    guest::{AccountsCall, AccountsReply},
    id::{InstanceId, OperationId},
    lifecycle::{Action, admit},
    model::{Database, EventKind, NewDatabase, NewUser, Page, PageRequest, RootChange, User, UserName},
    secret::{SecretString, generate_password},
    taskmanager::CallContext,
};

/// The length of a generated root password, which has 130 bits of entropy.
const ROOT_PASSWORD_LENGTH: usize = 22;
const MAX_PAGE: u32 = 1000;
/// How often a call is sent if each time another operation on the instance has begun.
const FENCED_ATTEMPTS: u32 = 3;

/// The databases, users, privileges and root user inside an instance.
///
/// Each call is executed by the running server. [`Conflict`](crate::error::Kind::Conflict) unless
/// the instance is in state [`Active`](crate::lifecycle::State::Active) or
/// [`Rotating`](crate::lifecycle::State::Rotating).
#[derive(Clone)]
pub struct InstanceAccounts {
    trove: Trove,
    instance: InstanceId,
}

/// The tenant's root user.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Root {
    /// The user name.
    pub name: String,
    /// The password, which the service does not store.
    pub password: SecretString,
}

impl InstanceAccounts {
    pub(super) fn new(trove: Trove, instance: InstanceId) -> Self {
        Self { trove, instance }
    }

    /// Creates databases. Existing ones are not changed.
    ///
    /// ```
    /// # #[cfg(feature = "conformance")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let world = trove_core::conformance::memory::World::new();
    /// # let trove = trove_core::Trove::builder()
    /// #     .store("sqlite::memory:")
    /// #     .platform(world.platform())
    /// #     .datastore(world.driver())
    /// #     .start()
    /// #     .await?;
    /// # let new = trove_core::control::NewInstance::new("orders", "memory").database("app").user("app", "correct horse");
    /// # let orders = trove.create(new).await?.active().await?;
    /// use trove_core::model::{NewDatabase, PageRequest};
    ///
    /// let accounts = orders.accounts();
    /// accounts.create_databases([NewDatabase::new("reports")]).await?;
    /// accounts.grant("app", &["reports"]).await?;
    /// let databases = accounts.databases(PageRequest::default()).await?;
    /// assert_eq!(databases.items.len(), 2);
    /// # trove.shut_down().await;
    /// # Ok::<_, trove_core::error::Error>(()) }).unwrap();
    /// ```
    pub async fn create_databases(&self, databases: impl IntoIterator<Item = NewDatabase>) -> Result<()> {
        let databases: Vec<_> = databases.into_iter().collect();
        self.check_count(databases.len())?;
        self.change(
            |rules| new_instance::check_databases(rules, &databases),
            || AccountsCall::CreateDatabases(databases.clone()),
        )
        .await
    }

    /// Lists databases in order of name.
    pub async fn databases(&self, page: PageRequest) -> Result<Page<Database>> {
        check_page(&page)?;
        match self.call(AccountsCall::Databases(page)).await? {
            AccountsReply::Databases(page) => Ok(page),
            other => Err(other.unexpected()),
        }
    }

    /// Drops a database with its content and closes its connections. Succeeds if it does not exist.
    pub async fn drop_database(&self, name: &str) -> Result<()> {
        self.change(|rules| rules.check_existing_database(name), || AccountsCall::DropDatabase(name.to_owned())).await
    }

    /// Creates all users or none. [`Conflict`](crate::error::Kind::Conflict) if a user exists,
    /// [`NotFound`](crate::error::Kind::NotFound) if a database does not exist.
    pub async fn create_users(&self, users: impl IntoIterator<Item = NewUser>) -> Result<()> {
        let users: Vec<_> = users.into_iter().collect();
        self.check_count(users.len())?;
        self.change(|rules| new_instance::check_users(rules, &users), || AccountsCall::CreateUsers(users.clone())).await
    }

    /// Lists users in order of name.
    pub async fn users(&self, page: PageRequest) -> Result<Page<User>> {
        check_page(&page)?;
        match self.call(AccountsCall::Users(page)).await? {
            AccountsReply::Users(page) => Ok(page),
            other => Err(other.unexpected()),
        }
    }

    /// Returns a user; [`NotFound`](crate::error::Kind::NotFound) if it does not exist.
    pub async fn user(&self, user: impl Into<UserName>) -> Result<User> {
        let user = user.into();
        self.rules().await?.check_existing_user(&user)?;
        match self.call(AccountsCall::User(user)).await? {
            AccountsReply::User(user) => Ok(user),
            other => Err(other.unexpected()),
        }
    }

    /// Renames a user or changes its host. Password and privileges stay.
    /// [`Conflict`](crate::error::Kind::Conflict) if the new name exists.
    pub async fn rename_user(&self, user: impl Into<UserName>, to: impl Into<UserName>) -> Result<()> {
        let (user, to) = (user.into(), to.into());
        let check = |rules: &AccountRules| rules.check_existing_user(&user).and_then(|()| rules.check_user(&to));
        self.change(check, || AccountsCall::RenameUser { user: user.clone(), to: to.clone() }).await
    }

    /// Changes the password of a user. Open sessions stay open.
    pub async fn set_password(&self, user: impl Into<UserName>, password: SecretString) -> Result<()> {
        let user = user.into();
        let check =
            |rules: &AccountRules| rules.check_existing_user(&user).and_then(|()| rules.check_password(&password));
        self.change(check, || AccountsCall::SetPassword { user: user.clone(), password: password.clone() }).await
    }

    /// Grants a user access to databases. Existing privileges stay.
    pub async fn grant(&self, user: impl Into<UserName>, databases: &[&str]) -> Result<()> {
        let user = user.into();
        self.check_count(databases.len())?;
        let check = |rules: &AccountRules| {
            rules.check_existing_user(&user)?;
            databases.iter().try_for_each(|database| rules.check_existing_database(database))
        };
        let databases = || databases.iter().map(|database| (*database).to_owned()).collect();
        self.change(check, || AccountsCall::Grant { user: user.clone(), databases: databases() }).await
    }

    /// Revokes the access of a user to a database and closes its sessions there. Succeeds without
    /// such access.
    pub async fn revoke(&self, user: impl Into<UserName>, database: &str) -> Result<()> {
        let user = user.into();
        let check = |rules: &AccountRules| {
            rules.check_existing_user(&user).and_then(|()| rules.check_existing_database(database))
        };
        self.change(check, || AccountsCall::Revoke { user: user.clone(), database: database.to_owned() }).await
    }

    /// Drops a user and closes its sessions. Objects that it owns stay in the databases. Succeeds
    /// if the user does not exist.
    pub async fn drop_user(&self, user: impl Into<UserName>) -> Result<()> {
        let user = user.into();
        self.change(|rules| rules.check_existing_user(&user), || AccountsCall::DropUser(user.clone())).await
    }

    /// Enables the tenant's root user with a new random password, which cannot be retrieved again.
    pub async fn enable_root(&self) -> Result<Root> {
        let password = generate_password(ROOT_PASSWORD_LENGTH)?;
        self.record_root_change(true).await?;
        match self.execute(AccountsCall::EnableRoot(password.clone())).await? {
            AccountsReply::Root(name) => Ok(Root { name, password }),
            other => Err(other.unexpected()),
        }
    }

    /// Disables the tenant's root user and closes its sessions. Objects and users that it created
    /// stay, except those that could act for it: accounts that the user list cannot show are
    /// dropped, and its scheduled events are disabled.
    pub async fn disable_root(&self) -> Result<()> {
        self.record_root_change(false).await?;
        self.change(|_| Ok(()), || AccountsCall::DisableRoot).await
    }

    /// Returns the last hundred requests to enable or disable root, latest first. A request is
    /// recorded before it is executed, so that the history is complete.
    pub async fn root_history(&self) -> Result<Vec<RootChange>> {
        self.trove.read(self.instance).await?;
        self.trove.0.control.store.root_history(self.instance).await
    }

    /// Returns whether the tenant's root user is enabled.
    pub async fn root_enabled(&self) -> Result<bool> {
        match self.call(AccountsCall::RootEnabled).await? {
            AccountsReply::Flag(enabled) => Ok(enabled),
            other => Err(other.unexpected()),
        }
    }

    async fn record_root_change(&self, enabled: bool) -> Result<()> {
        self.rules().await?;
        admit(self.trove.read(self.instance).await?.state, Action::Accounts)?;
        let change = RootChange { at: self.trove.0.clock.now(), enabled };
        self.trove.0.control.store.insert_root_change(self.instance, change).await
    }

    /// Validates and executes a change.
    async fn change(
        &self,
        check: impl FnOnce(&AccountRules) -> Result<()> + Send,
        call: impl FnOnce() -> AccountsCall + Send,
    ) -> Result<()> {
        check(&self.rules().await?)?;
        match self.execute(call()).await? {
            AccountsReply::Done => Ok(()),
            other => Err(other.unexpected()),
        }
    }

    /// Executes a change and publishes an event.
    async fn execute(&self, call: AccountsCall) -> Result<AccountsReply> {
        let action = call.action();
        let reply = self.call(call).await?;
        if let Some(action) = action {
            self.trove.publish(self.instance, EventKind::Accounts { action: action.to_owned() });
        }
        Ok(reply)
    }

    async fn call(&self, request: AccountsCall) -> Result<AccountsReply> {
        let operation = OperationId::new_v4();
        for _ in 0..FENCED_ATTEMPTS {
            let instance = self.trove.read(self.instance).await?;
            admit(instance.state, Action::Accounts)?;
            let context = CallContext { operation, epoch: instance.epoch, progress: None };
            match self.trove.0.control.guests.accounts(self.instance, context, request.clone()).await {
                // An operation on the instance has begun since. Some permit account changes.
                Err(error) if error.kind() == Kind::Fenced => {}
                reply => return reply,
            }
        }
        Err(Error::busy("another operation on the instance is running"))
    }

    async fn rules(&self) -> Result<AccountRules> {
        let instance = self.trove.read(self.instance).await?;
        let driver = self.trove.0.control.guests.driver(&instance.datastore)?;
        driver.manifest().accounts.clone().ok_or_else(|| {
            Error::unsupported(format!("datastore {} does not support databases and users", instance.datastore))
        })
    }

    fn check_count(&self, count: usize) -> Result<()> {
        let most = self.trove.0.limits.accounts;
        if count > most {
            Err(Error::invalid(format!("a request must not exceed {most} entries; requested {count}")))
        } else {
            Ok(())
        }
    }
}

fn check_page(page: &PageRequest) -> Result<()> {
    if (1..=MAX_PAGE).contains(&page.limit) {
        Ok(())
    } else {
        Err(Error::invalid(format!("the page size must be 1 to {MAX_PAGE}; requested {}", page.limit)))
    }
}
