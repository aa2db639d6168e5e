use std::fmt;

use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// A database to create inside an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NewDatabase {
    /// The name.
    pub name: String,
    /// The character set in the terms of the engine: `utf8mb4`, `UTF8`. `None` is the engine's
    /// default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub character_set: Option<String>,
    /// The collation in the terms of the engine: `utf8mb4_0900_ai_ci`, `C.UTF-8`. `None` is the
    /// default of the character set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collation: Option<String>,
}

impl NewDatabase {
    /// Creates a request for a database with the default character set (Unicode) and collation of
    /// the engine.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), character_set: None, collation: None }
    }

    /// Sets the character set.
    #[must_use]
    pub fn character_set(mut self, character_set: impl Into<String>) -> Self {
        self.character_set = Some(character_set.into());
        self
    }

    /// Sets the collation.
    #[must_use]
    pub fn collation(mut self, collation: impl Into<String>) -> Self {
        self.collation = Some(collation.into());
        self
    }
}

impl From<&str> for NewDatabase {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

/// The identity of a user inside an instance: a name and, for engines that distinguish users by it,
/// a client host.
///
/// Formatted as `name` or `name@host`. Two users with the same name and different hosts are
/// different users.
///
/// ```
/// use trove_core::model::UserName;
///
/// assert_eq!(UserName::new("app").at("10.0.0.%").to_string(), "app@10.0.0.%");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UserName {
    /// The name.
    pub name: String,
    /// The host that the user may connect from: an address, or a pattern with the wildcard `%`.
    /// `None` is any host, and the only value for engines without hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

impl UserName {
    /// Returns the name of a user who may connect from any host.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), host: None }
    }

    /// Sets the host.
    #[must_use]
    pub fn at(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }
}

impl From<&str> for UserName {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for UserName {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

impl From<&String> for UserName {
    fn from(name: &String) -> Self {
        Self::new(name)
    }
}

impl From<&UserName> for UserName {
    fn from(user: &UserName) -> Self {
        user.clone()
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(host) => write!(f, "{}@{host}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A user to create inside an instance.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewUser {
    /// The name and host.
    pub user: UserName,
    /// The password.
    pub password: SecretString,
    /// The databases that the user may access. Each has to exist or to be created by the same
    /// request.
    pub databases: Vec<String>,
}

impl NewUser {
    /// Creates a request for a user without access to any database.
    pub fn new(user: impl Into<UserName>, password: impl Into<SecretString>) -> Self {
        Self { user: user.into(), password: password.into(), databases: Vec::new() }
    }

    /// Grants access to a database.
    #[must_use]
    pub fn granted(mut self, database: impl Into<String>) -> Self {
        self.databases.push(database.into());
        self
    }
}

/// A database inside an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Database {
    /// The name.
    pub name: String,
    /// The character set in the terms of the engine.
    pub character_set: Option<String>,
    /// The collation in the terms of the engine.
    pub collation: Option<String>,
}

impl Database {
    /// Returns a database whose character set and collation are unknown.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), character_set: None, collation: None }
    }

    /// Sets the character set and the collation.
    #[must_use]
    pub fn text(mut self, character_set: impl Into<String>, collation: impl Into<String>) -> Self {
        (self.character_set, self.collation) = (Some(character_set.into()), Some(collation.into()));
        self
    }
}

/// A user inside an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct User {
    /// The name and host.
    #[serde(flatten)]
    pub user: UserName,
    /// The databases that the user may access, in order of name.
    pub databases: Vec<String>,
}

impl User {
    /// Returns a user who may access these databases.
    pub fn new(user: impl Into<UserName>, databases: Vec<String>) -> Self {
        Self { user: user.into(), databases }
    }
}

/// A request to enable or disable the tenant's root user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootChange {
    /// The time of the request.
    pub at: Timestamp,
    /// Whether root was to be enabled.
    pub enabled: bool,
}

/// The page of a list to return. The default is the first hundred entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRequest {
    /// The maximum number of entries; 1 to 1000.
    pub limit: u32,
    /// The marker: the last entry of the preceding page.
    pub after: Option<String>,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self { limit: 100, after: None }
    }
}

/// A page of a sorted list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// The marker of the next page ([`PageRequest::after`]); `None` on the last page.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// Returns a page of up to `limit` entries. The caller fetches one entry more, which tells
    /// whether a next page exists.
    pub fn of(mut items: Vec<T>, limit: u32, key: impl Fn(&T) -> String) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(key) } else { None };
        Self { items, next }
    }
}
