//! What a guest can be asked, and what it answers.

use serde::{Deserialize, Serialize};

use super::{GuestIdentity, wire};
use crate::{
    datastore::{Accounts, Cx, Prepare, Release},
    error::{Error, Result},
    model::{Database, Flavor, NewDatabase, NewUser, Page, PageRequest, Settings, User, UserName},
    secret::SecretString,
};

/// Long work on an instance's server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Work {
    /// From an empty volume to a running server.
    Prepare(#[serde(with = "wire::prepare")] Prepare),
    /// To a running server.
    Start,
    /// To a stopped server.
    Stop,
    /// To a stopped server and back.
    Restart,
    /// To nothing.
    Remove,
    /// To other settings.
    Configure(Settings),
    /// To the settings before.
    RestoreSettings(Settings),
    /// To another flavor.
    Resize(Flavor),
    /// To the flavor before.
    RevertResize(Flavor),
    /// To nothing else; refuses an upgrade that cannot be.
    CheckUpgrade(#[serde(with = "wire::release")] Release),
    /// To nothing else; the agent keeps it running.
    KeepRunning,
    /// To a server of another release.
    Upgrade(#[serde(with = "wire::release")] Release),
    /// To a server of the release before.
    RevertUpgrade(#[serde(with = "wire::release")] Release),
    /// To a server without a way back.
    ConcludeUpgrade,
    /// To a guest with other credentials, beside those it has.
    Renew(#[serde(with = "wire::identity")] GuestIdentity),
}

impl Work {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Prepare(_) => "prepare",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Remove => "remove",
            Self::Configure(_) => "configure",
            Self::RestoreSettings(_) => "restore settings",
            Self::Resize(_) => "resize",
            Self::RevertResize(_) => "revert resize",
            Self::CheckUpgrade(_) => "check upgrade",
            Self::KeepRunning => "keep running",
            Self::Upgrade(_) => "upgrade",
            Self::RevertUpgrade(_) => "revert upgrade",
            Self::ConcludeUpgrade => "conclude upgrade",
            Self::Renew(_) => "renew",
        }
    }
}

/// What waiting for a job came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobEnd {
    /// It is done.
    Done,
    /// It goes on; ask again.
    Running,
}

/// A question about, or a change to, the accounts inside an instance. See [`Accounts`] for what each means.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each variant is the method of the same name, with its arguments")]
pub enum AccountsCall {
    CreateDatabases(Vec<NewDatabase>),
    Databases(PageRequest),
    DropDatabase(String),
    CreateUsers(#[serde(with = "wire::users")] Vec<NewUser>),
    Users(PageRequest),
    User(UserName),
    RenameUser {
        user: UserName,
        to: UserName,
    },
    SetPassword {
        user: UserName,
        #[serde(with = "wire::secret")]
        password: SecretString,
    },
    Grant {
        user: UserName,
        databases: Vec<String>,
    },
    Revoke {
        user: UserName,
        database: String,
    },
    DropUser(UserName),
    EnableRoot(#[serde(with = "wire::secret")] SecretString),
    DisableRoot,
    RootEnabled,
}

/// The answer to an [`AccountsCall`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum AccountsReply {
    /// It is done.
    Done,
    /// A part of the list of databases.
    Databases(Page<Database>),
    /// A part of the list of users.
    Users(Page<User>),
    /// One user.
    User(User),
    /// The name of the tenant's root.
    Root(String),
    /// Yes or no.
    Flag(bool),
}

impl AccountsCall {
    /// What it changes, for the event stream; `None` where it only looks.
    pub fn action(&self) -> Option<&'static str> {
        match self {
            Self::CreateDatabases(_) => Some("create databases"),
            Self::DropDatabase(_) => Some("drop database"),
            Self::CreateUsers(_) => Some("create users"),
            Self::RenameUser { .. } => Some("rename user"),
            Self::SetPassword { .. } => Some("set password"),
            Self::Grant { .. } => Some("grant"),
            Self::Revoke { .. } => Some("revoke"),
            Self::DropUser(_) => Some("drop user"),
            Self::EnableRoot(_) => Some("enable root"),
            Self::DisableRoot => Some("disable root"),
            Self::Databases(_) | Self::Users(_) | Self::User(_) | Self::RootEnabled => None,
        }
    }

    pub(super) async fn answer(self, accounts: &dyn Accounts, cx: &Cx) -> Result<AccountsReply> {
        let done = |()| AccountsReply::Done;
        match self {
            Self::CreateDatabases(databases) => accounts.create_databases(cx, &databases).await.map(done),
            Self::Databases(page) => accounts.databases(cx, &page).await.map(AccountsReply::Databases),
            Self::DropDatabase(name) => accounts.drop_database(cx, &name).await.map(done),
            Self::CreateUsers(users) => accounts.create_users(cx, &users).await.map(done),
            Self::Users(page) => accounts.users(cx, &page).await.map(AccountsReply::Users),
            Self::User(name) => accounts.user(cx, &name).await.map(AccountsReply::User),
            Self::RenameUser { user, to } => accounts.rename_user(cx, &user, &to).await.map(done),
            Self::SetPassword { user, password } => accounts.set_password(cx, &user, &password).await.map(done),
            Self::Grant { user, databases } => accounts.grant(cx, &user, &databases).await.map(done),
            Self::Revoke { user, database } => accounts.revoke(cx, &user, &database).await.map(done),
            Self::DropUser(name) => accounts.drop_user(cx, &name).await.map(done),
            Self::EnableRoot(password) => accounts.enable_root(cx, &password).await.map(AccountsReply::Root),
            Self::DisableRoot => accounts.disable_root(cx).await.map(done),
            Self::RootEnabled => accounts.root_enabled(cx).await.map(AccountsReply::Flag),
        }
    }
}

impl AccountsReply {
    /// The error for an answer to another question.
    pub fn unexpected(self) -> Error {
        Error::internal("the guest answered another question")
    }
}
