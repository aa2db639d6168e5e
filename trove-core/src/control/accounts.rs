use super::{Trove, new_instance};
use crate::{
    datastore::AccountRules,
    error::{Error, Kind, Result},
    guest::{AccountsCall, AccountsReply, Call},
    id::{InstanceId, OperationId},
    lifecycle::{Action, admit},
    model::{Database, EventKind, NewDatabase, NewUser, Page, PageRequest, RootChange, User, UserName},
    secret::{SecretString, generate_password},
};

/// The length of a generated root password: 22 letters and digits carry 130 bits.
const ROOT_PASSWORD_LENGTH: usize = 22;
const MAX_PAGE: u32 = 1000;

/// The databases, users, rights and root inside an instance.
///
/// Each call goes to the running server and returns when the server has done it. The instance has to be in state
/// [`Active`](crate::lifecycle::State::Active), or it is [`Conflict`](crate::error::Kind::Conflict).
#[derive(Clone)]
pub struct Accounts {
    trove: Trove,
    instance: InstanceId,
}

/// The tenant's root.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Root {
    /// Its name.
    pub name: String,
    /// Its password, which is stored nowhere.
    pub password: SecretString,
}

impl Accounts {
    pub(super) fn new(trove: Trove, instance: InstanceId) -> Self {
        Self { trove, instance }
    }

    /// Creates databases; one that exists already is left as it is.
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
        match self.ask(AccountsCall::Databases(page)).await? {
            AccountsReply::Databases(page) => Ok(page),
            other => Err(other.unexpected()),
        }
    }

    /// Drops a database with all it holds, and the connections to it. One that is absent is `Ok`.
    pub async fn drop_database(&self, name: &str) -> Result<()> {
        self.change(|rules| rules.check_database(name), || AccountsCall::DropDatabase(name.to_owned())).await
    }

    /// Creates users, all or none. One that exists is [`Conflict`](crate::error::Kind::Conflict), a database that does not
    /// [`NotFound`](crate::error::Kind::NotFound).
    pub async fn create_users(&self, users: impl IntoIterator<Item = NewUser>) -> Result<()> {
        let users: Vec<_> = users.into_iter().collect();
        self.check_count(users.len())?;
        self.change(|rules| new_instance::check_users(rules, &users), || AccountsCall::CreateUsers(users.clone())).await
    }

    /// Lists users in order of name.
    pub async fn users(&self, page: PageRequest) -> Result<Page<User>> {
        check_page(&page)?;
        match self.ask(AccountsCall::Users(page)).await? {
            AccountsReply::Users(page) => Ok(page),
            other => Err(other.unexpected()),
        }
    }

    /// One user; [`NotFound`](crate::error::Kind::NotFound) where there is none.
    pub async fn user(&self, user: impl Into<UserName>) -> Result<User> {
        let user = user.into();
        self.rules().await?.check_user(&user)?;
        match self.ask(AccountsCall::User(user)).await? {
            AccountsReply::User(user) => Ok(user),
            other => Err(other.unexpected()),
        }
    }

    /// Calls a user otherwise, or lets it come from elsewhere; its password and rights stay.
    /// [`Conflict`](crate::error::Kind::Conflict) where the other name is taken.
    pub async fn rename_user(&self, user: impl Into<UserName>, to: impl Into<UserName>) -> Result<()> {
        let (user, to) = (user.into(), to.into());
        let check = |rules: &AccountRules| rules.check_user(&user).and_then(|()| rules.check_user(&to));
        self.change(check, || AccountsCall::RenameUser { user: user.clone(), to: to.clone() }).await
    }

    /// Changes a user's password. Sessions that are open stay open.
    pub async fn set_password(&self, user: impl Into<UserName>, password: SecretString) -> Result<()> {
        let user = user.into();
        let check = |rules: &AccountRules| rules.check_user(&user).and_then(|()| rules.check_password(&password));
        self.change(check, || AccountsCall::SetPassword { user: user.clone(), password: password.clone() }).await
    }

    /// Lets a user use databases; a right it has already stays.
    pub async fn grant(&self, user: impl Into<UserName>, databases: &[&str]) -> Result<()> {
        let user = user.into();
        self.check_count(databases.len())?;
        let check = |rules: &AccountRules| {
            rules.check_user(&user)?;
            databases.iter().try_for_each(|database| rules.check_database(database))
        };
        let databases = || databases.iter().map(|database| (*database).to_owned()).collect();
        self.change(check, || AccountsCall::Grant { user: user.clone(), databases: databases() }).await
    }

    /// Takes a database from a user, and ends its sessions there; a right it does not have is `Ok`.
    pub async fn revoke(&self, user: impl Into<UserName>, database: &str) -> Result<()> {
        let user = user.into();
        let check = |rules: &AccountRules| rules.check_user(&user).and_then(|()| rules.check_database(database));
        self.change(check, || AccountsCall::Revoke { user: user.clone(), database: database.to_owned() }).await
    }

    /// Drops a user and ends its sessions. What it owned stays, with the databases. One that is absent is `Ok`.
    pub async fn drop_user(&self, user: impl Into<UserName>) -> Result<()> {
        let user = user.into();
        self.change(|rules| rules.check_user(&user), || AccountsCall::DropUser(user.clone())).await
    }

    /// Lets the tenant's root log in, with a new random password, which nobody can ask for again.
    pub async fn enable_root(&self) -> Result<Root> {
        let password = generate_password(ROOT_PASSWORD_LENGTH)?;
        self.note_root(true).await?;
        match self.tell(AccountsCall::EnableRoot(password.clone())).await? {
            AccountsReply::Root(name) => Ok(Root { name, password }),
            other => Err(other.unexpected()),
        }
    }

    /// Keeps the tenant's root from logging in, and ends its sessions. What it made stays.
    pub async fn disable_root(&self) -> Result<()> {
        self.note_root(false).await?;
        self.change(|_| Ok(()), || AccountsCall::DisableRoot).await
    }

    /// When root was asked to be enabled or disabled, the last hundred times, latest first. Written down before it is
    /// done, so that nobody who was root is missing.
    pub async fn root_history(&self) -> Result<Vec<RootChange>> {
        self.trove.read(self.instance).await?;
        self.trove.0.control.store.root_history(self.instance).await
    }

    /// True where the tenant's root may log in.
    pub async fn root_enabled(&self) -> Result<bool> {
        match self.ask(AccountsCall::RootEnabled).await? {
            AccountsReply::Flag(enabled) => Ok(enabled),
            other => Err(other.unexpected()),
        }
    }

    async fn note_root(&self, enabled: bool) -> Result<()> {
        self.rules().await?;
        admit(self.trove.read(self.instance).await?.state, Action::Accounts)?;
        let change = RootChange { at: self.trove.0.clock.now(), enabled };
        self.trove.0.control.store.note_root(self.instance, change).await
    }

    /// Changes something, once it is checked.
    async fn change(
        &self,
        check: impl FnOnce(&AccountRules) -> Result<()> + Send,
        call: impl FnOnce() -> AccountsCall + Send,
    ) -> Result<()> {
        check(&self.rules().await?)?;
        match self.tell(call()).await? {
            AccountsReply::Done => Ok(()),
            other => Err(other.unexpected()),
        }
    }

    /// Asks for a change and tells listeners of it.
    async fn tell(&self, call: AccountsCall) -> Result<AccountsReply> {
        let action = call.action();
        let reply = self.ask(call).await?;
        if let Some(action) = action {
            self.trove.publish(self.instance, EventKind::Accounts { action: action.to_owned() });
        }
        Ok(reply)
    }

    async fn ask(&self, question: AccountsCall) -> Result<AccountsReply> {
        let instance = self.trove.read(self.instance).await?;
        admit(instance.state, Action::Accounts)?;
        let call = Call { operation: OperationId::new_v4(), epoch: instance.epoch, progress: None };
        let answer = self.trove.0.control.guests.accounts(self.instance, call, question).await;
        answer.map_err(|error| match error.kind() {
            // An operation on the instance began meanwhile.
            Kind::Fenced => Error::busy("the instance is being changed"),
            _ => error,
        })
    }

    async fn rules(&self) -> Result<AccountRules> {
        let instance = self.trove.read(self.instance).await?;
        let driver = self.trove.0.control.guests.driver(&instance.datastore)?;
        driver
            .manifest()
            .accounts
            .clone()
            .ok_or_else(|| Error::unsupported(format!("datastore {} has no databases and users", instance.datastore)))
    }

    fn check_count(&self, count: usize) -> Result<()> {
        let most = self.trove.0.limits.accounts;
        if count > most { Err(Error::invalid(format!("at most {most} at once; asked for {count}"))) } else { Ok(()) }
    }
}

fn check_page(page: &PageRequest) -> Result<()> {
    if (1..=MAX_PAGE).contains(&page.limit) {
        Ok(())
    } else {
        Err(Error::invalid(format!("a page has 1 to {MAX_PAGE} entries; asked for {}", page.limit)))
    }
}
