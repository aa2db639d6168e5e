//! Requests to a guest and their results.
//!
//! They are sent as JSON, so the names of variants are part of the protocol.

use serde::{Deserialize, Serialize};

use super::{GuestIdentity, wire};
use crate::{
    datastore::{Accounts, Cx, Prepare, Release},
    error::{Error, Result},
    model::{Database, Flavor, NewDatabase, NewUser, Page, PageRequest, Settings, User, UserName},
    secret::SecretString,
};

/// A long-running change of an instance's server, or of its agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Job {
    /// Initializes an empty volume and starts the server.
    Prepare(#[serde(with = "wire::prepare")] Prepare),
    /// Starts the server.
    Start,
    /// Stops the server.
    Stop,
    /// Stops and starts the server.
    Restart,
    /// Removes the server and its data.
    Remove,
    /// Applies settings.
    Configure(Settings),
    /// Applies the previous settings.
    RestoreSettings(Settings),
    /// Restarts the server with the limits of another flavor.
    Resize(Flavor),
    /// Restarts the server with the limits of the previous flavor.
    RevertResize(Flavor),
    /// Validates an upgrade without changing anything.
    CheckUpgrade(#[serde(with = "wire::release")] Release),
    /// Keeps the server running, without changing it.
    KeepRunning,
    /// Upgrades the server to another release.
    Upgrade(#[serde(with = "wire::release")] Release),
    /// Returns to the previous release.
    RevertUpgrade(#[serde(with = "wire::release")] Release),
    /// Removes the data that only a return to the previous release would need.
    CommitUpgrade,
    /// Adds an identity to those that the guest has.
    AddIdentity(#[serde(with = "wire::identity")] GuestIdentity),
}

impl Job {
    pub(crate) fn name(&self) -> &'static str {
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
            Self::CommitUpgrade => "commit upgrade",
            Self::AddIdentity(_) => "add identity",
        }
    }
}

/// The status of a job that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum JobStatus {
    Done,
    /// The job has not ended; poll again later.
    Running,
}

/// A query or change of the accounts inside an instance; each variant is the method of [`Accounts`]
/// with that name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum AccountsCall {
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

/// The result of an [`AccountsCall`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum AccountsReply {
    Done,
    Databases(Page<Database>),
    Users(Page<User>),
    User(User),
    /// The name of the tenant's root.
    Root(String),
    Flag(bool),
}

impl AccountsCall {
    /// Returns the name of the change for the event stream; `None` for a query.
    pub(crate) fn action(&self) -> Option<&'static str> {
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

    pub(super) async fn execute(self, accounts: &dyn Accounts, cx: &Cx) -> Result<AccountsReply> {
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
    /// Returns the error for a reply to a different call.
    pub(crate) fn unexpected(self) -> Error {
        Error::internal("the guest sent a reply of an unexpected type")
    }
}
