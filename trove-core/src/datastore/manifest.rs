use secrecy::{ExposeSecret, SecretString};

use crate::{
    error::{Error, Result},
    model::{ByteSize, mib},
};

/// What a driver tells about its engine before any instance exists.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Manifest {
    /// What the datastore is called: `postgresql`.
    pub name: String,
    /// The versions on offer, the default first.
    pub versions: Vec<Version>,
    /// The port the server listens on in its own network.
    pub port: u16,
    /// The scheme of the URIs its clients use: `postgresql`.
    pub uri_scheme: String,
    /// The least memory a server needs.
    pub min_memory: ByteSize,
    /// What names and passwords have to be like; `None` where the engine has no accounts.
    pub accounts: Option<AccountRules>,
}

impl Manifest {
    /// A datastore with one version, no accounts and 64 MiB as the least memory.
    pub fn new(name: impl Into<String>, version: Version, port: u16) -> Self {
        let name = name.into();
        Self { uri_scheme: name.clone(), name, versions: vec![version], port, min_memory: mib(64), accounts: None }
    }

    /// The version of this name, or the default; [`NotFound`](crate::error::Kind::NotFound) lists those there are.
    pub fn version(&self, name: Option<&str>) -> Result<&Version> {
        let found = match name {
            None => self.versions.first(),
            Some(name) => self.versions.iter().find(|version| version.name == name),
        };
        found.ok_or_else(|| {
            let known = self.versions.iter().map(|version| version.name.as_str()).collect::<Vec<_>>().join(", ");
            let wanted = name.unwrap_or_default();
            Error::not_found(format!("datastore {} has no version {wanted:?}; it has: {known}", self.name))
        })
    }
}

/// A version of a datastore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// What it is called: `17`.
    pub name: String,
    /// The image its servers run from.
    pub image: String,
}

impl Version {
    /// A version.
    pub fn new(name: impl Into<String>, image: impl Into<String>) -> Self {
        Self { name: name.into(), image: image.into() }
    }
}

/// What an engine asks of names and passwords. Checked before anything is made.
///
/// Quotes, backslashes, semicolons, spaces and any letter are allowed: engines quote. Control characters, and names
/// that begin or end with white space, are not: they cannot be typed, seen or written into a connection file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AccountRules {
    /// The longest name of a database, in bytes of UTF-8.
    pub max_database_bytes: usize,
    /// The longest name of a user, in bytes of UTF-8.
    pub max_user_bytes: usize,
    /// The longest password, in bytes of UTF-8.
    pub max_password_bytes: usize,
    /// Database names that the engine or the service uses, compared without regard to ASCII case.
    pub reserved_databases: Vec<String>,
    /// User names that the engine or the service uses, compared without regard to ASCII case.
    pub reserved_users: Vec<String>,
    /// No database or user name may begin so, compared without regard to ASCII case.
    pub reserved_prefixes: Vec<String>,
}

impl AccountRules {
    /// Rules with the same length for all names, 128 bytes for passwords, and nothing reserved but `trove_`.
    pub fn new(max_name_bytes: usize) -> Self {
        Self {
            max_database_bytes: max_name_bytes,
            max_user_bytes: max_name_bytes,
            max_password_bytes: 128,
            reserved_databases: Vec::new(),
            reserved_users: Vec::new(),
            reserved_prefixes: vec!["trove_".to_owned()],
        }
    }

    /// [`Invalid`](crate::error::Kind::Invalid) unless a database may be called so.
    pub fn check_database(&self, name: &str) -> Result<()> {
        self.check_name("database", name, self.max_database_bytes, &self.reserved_databases)
    }

    /// [`Invalid`](crate::error::Kind::Invalid) unless a user may be called so.
    pub fn check_user(&self, name: &str) -> Result<()> {
        self.check_name("user", name, self.max_user_bytes, &self.reserved_users)
    }

    /// [`Invalid`](crate::error::Kind::Invalid) unless a user may have this password. The message does not hold it.
    pub fn check_password(&self, password: &SecretString) -> Result<()> {
        let password = password.expose_secret();
        if password.is_empty() {
            return Err(Error::invalid("a password must not be empty"));
        }
        if password.len() > self.max_password_bytes {
            return Err(Error::invalid(format!("a password must not exceed {} bytes", self.max_password_bytes)));
        }
        if password.chars().any(char::is_control) {
            return Err(Error::invalid("a password must not hold control characters"));
        }
        Ok(())
    }

    fn check_name(&self, what: &str, name: &str, max_bytes: usize, reserved: &[String]) -> Result<()> {
        let lower = name.to_ascii_lowercase();
        if name.is_empty() {
            Err(Error::invalid(format!("a {what} name must not be empty")))
        } else if name.len() > max_bytes {
            Err(Error::invalid(format!("a {what} name must not exceed {max_bytes} bytes; this one has {}", name.len())))
        } else if name.chars().any(char::is_control) {
            Err(Error::invalid(format!("a {what} name must not hold control characters: {name:?}")))
        } else if name.trim() != name {
            Err(Error::invalid(format!("a {what} name must not begin or end with white space: {name:?}")))
        } else if reserved.contains(&lower) {
            Err(Error::invalid(format!("the {what} name {name:?} is reserved")))
        } else if let Some(prefix) = self.reserved_prefixes.iter().find(|prefix| lower.starts_with(prefix.as_str())) {
            Err(Error::invalid(format!("{what} names that begin with {prefix:?} are reserved: {name:?}")))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_refused_for_their_own_reason() {
        let mut rules = AccountRules::new(63);
        rules.reserved_users.push("root".to_owned());
        let refused = |name: &str| rules.check_user(name).unwrap_err().to_string();
        assert!(refused("").contains("empty"));
        assert!(refused(&"x".repeat(64)).contains("63 bytes"));
        assert!(refused(&"ä".repeat(32)).contains("63 bytes"));
        assert!(refused("a\0b").contains("control"));
        assert!(refused("a\nb").contains("control"));
        assert!(refused(" a").contains("white space"));
        assert!(refused("Root").contains("reserved"));
        assert!(refused("TROVE_admin").contains("reserved"));
        for fine in ["a", "o'brien", "a\"b", "a;drop table x;--", "名前", "100%", "a\\b", &"x".repeat(63)] {
            rules.check_user(fine).unwrap();
        }
    }

    #[test]
    fn a_refused_password_is_not_in_the_message() {
        let rules = AccountRules::new(63);
        for password in ["hunter2\n".to_owned(), "hunter2".repeat(40)] {
            let error = rules.check_password(&SecretString::from(password)).unwrap_err();
            assert!(!error.report().contains("hunter2"));
        }
    }
}
