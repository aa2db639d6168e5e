use std::fmt;

use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// A database to create inside an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NewDatabase {
    /// Its name.
    pub name: String,
    /// How its text is encoded, as the engine calls it: `utf8mb4`, `UTF8`. `None` is the engine's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub character_set: Option<String>,
    /// How its text is ordered, as the engine calls it: `utf8mb4_0900_ai_ci`, `C.UTF-8`. `None` is the character set's
    /// default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collation: Option<String>,
}

impl NewDatabase {
    /// A database of this name with the engine's default character set (Unicode) and collation.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), character_set: None, collation: None }
    }

    /// Encodes its text so.
    #[must_use]
    pub fn character_set(mut self, character_set: impl Into<String>) -> Self {
        self.character_set = Some(character_set.into());
        self
    }

    /// Orders its text so.
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

/// What identifies a user inside an instance: a name and, where the engine tells users apart by it, the host they
/// come from.
///
/// Written `name` or `name@host`. Two users of one name and different hosts are two users.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UserName {
    /// The name.
    pub name: String,
    /// Where it may connect from: an address, or a pattern in which `%` stands for anything. `None` is anywhere, and
    /// all that an engine without hosts knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

impl UserName {
    /// A user from anywhere.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), host: None }
    }

    /// The user of this name who comes from `host`.
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
    /// What it is called, and where it may connect from.
    pub user: UserName,
    /// Its password.
    pub password: SecretString,
    /// The databases it may use, all of which exist or are created with it.
    pub databases: Vec<String>,
}

impl NewUser {
    /// A user that may log in and nothing else yet.
    pub fn new(user: impl Into<UserName>, password: impl Into<SecretString>) -> Self {
        Self { user: user.into(), password: password.into(), databases: Vec::new() }
    }

    /// Lets the user use a database.
    #[must_use]
    pub fn granted(mut self, database: impl Into<String>) -> Self {
        self.databases.push(database.into());
        self
    }
}

/// A database as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Database {
    /// Its name.
    pub name: String,
    /// How its text is encoded, as the engine calls it.
    pub character_set: Option<String>,
    /// How its text is ordered, as the engine calls it.
    pub collation: Option<String>,
}

impl Database {
    /// A database of this name, of which nothing more is known.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), character_set: None, collation: None }
    }

    /// The same with how its text is encoded and ordered.
    #[must_use]
    pub fn text(mut self, character_set: impl Into<String>, collation: impl Into<String>) -> Self {
        (self.character_set, self.collation) = (Some(character_set.into()), Some(collation.into()));
        self
    }
}

/// A user as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct User {
    /// What it is called, and where it may connect from.
    #[serde(flatten)]
    pub user: UserName,
    /// The databases it may use, in order of name.
    pub databases: Vec<String>,
}

impl User {
    /// A user that may use these databases.
    pub fn new(user: impl Into<UserName>, databases: Vec<String>) -> Self {
        Self { user: user.into(), databases }
    }
}

/// A request to enable or disable a tenant's root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootChange {
    /// When it was made.
    pub at: Timestamp,
    /// True where root was to be enabled.
    pub enabled: bool,
}

/// Which part of a list to return. The default is its first hundred entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRequest {
    /// How many entries at the most; 1 to 1000.
    pub limit: u32,
    /// The last entry of the page before, which this page follows.
    pub after: Option<String>,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self { limit: 100, after: None }
    }
}

/// A part of a list, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// What to ask for next ([`PageRequest::after`]); `None` at the end.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// Makes a page of up to `limit` of these entries, of which the caller fetched one more to know whether there are.
    pub fn of(mut items: Vec<T>, limit: u32, key: impl Fn(&T) -> String) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(key) } else { None };
        Self { items, next }
    }
}
