use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// A database to create inside an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NewDatabase {
    /// Its name.
    pub name: String,
}

impl NewDatabase {
    /// A database of this name with the engine's default encoding (UTF-8).
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }
}

impl From<&str> for NewDatabase {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

/// A user to create inside an instance.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewUser {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: SecretString,
    /// The databases it may use, all of which exist or are created with it.
    pub databases: Vec<String>,
}

impl NewUser {
    /// A user that may log in and nothing else yet.
    pub fn new(name: impl Into<String>, password: impl Into<SecretString>) -> Self {
        Self { name: name.into(), password: password.into(), databases: Vec::new() }
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
}

impl Database {
    /// A database of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }
}

/// A user as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct User {
    /// Its name.
    pub name: String,
    /// The databases it may use, in order of name.
    pub databases: Vec<String>,
}

impl User {
    /// A user that may use these databases.
    pub fn new(name: impl Into<String>, databases: Vec<String>) -> Self {
        Self { name: name.into(), databases }
    }
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
