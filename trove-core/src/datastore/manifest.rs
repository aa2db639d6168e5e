use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::{AbilitySet, no_databases};
use crate::{
    error::{Error, Result},
    model::{ByteSize, UserName, mib},
};

/// More than an address with a netmask needs.
const MAX_HOST_BYTES: usize = 60;

/// Describes a driver and its engine before any instance exists.
///
/// ```
/// use trove_core::datastore::{AccountRules, Manifest, Version};
///
/// let mut manifest = Manifest::new("cache", Version::new("8.1", "valkey/valkey:8.1"), 6379);
/// manifest.versions.push(Version::new("9.1", "valkey/valkey:9.1"));
/// manifest.series = vec!["8.1".to_owned(), "9".to_owned()];
/// manifest.accounts = Some(AccountRules::new(64));
/// manifest.configuration = true;
/// assert_eq!(manifest.version(None)?.name, "8.1");
/// manifest.check_version("9.0.1")?;
/// assert!(manifest.abilities().accounts && !manifest.abilities().upgrade);
/// # Ok::<_, trove_core::error::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Manifest {
    /// The name of the datastore: `postgresql`.
    pub name: String,
    /// The longest time that a call may take between two [progress](super::Cx::progress) reports.
    pub max_silence: Duration,
    /// The versions that are initially on offer. The first one is the default.
    pub versions: Vec<Version>,
    /// The version prefixes that the driver can run, such as `17` or `8.4`.
    pub series: Vec<String>,
    /// The port that the server listens on in its own network.
    pub port: u16,
    /// The scheme of client URIs: `postgresql`.
    pub uri_scheme: String,
    /// The minimum memory of a server.
    pub min_memory: ByteSize,
    /// Declares [accounts](super::Accounts), with the rules for names and passwords.
    pub accounts: Option<AccountRules>,
    /// Declares [parameters](super::Configuration).
    pub configuration: bool,
    /// Declares [upgrades](super::Upgrade).
    pub upgrade: bool,
    /// Declares [changes of the flavor](super::Resize).
    pub resize: bool,
}

impl Manifest {
    /// Creates the manifest of a datastore with one version, no abilities, at least 64 MiB of
    /// memory and a progress report at least every 30 seconds.
    pub fn new(name: impl Into<String>, version: Version, port: u16) -> Self {
        let name = name.into();
        Self {
            uri_scheme: name.clone(),
            name,
            max_silence: Duration::from_secs(30),
            series: vec![version.name.clone()],
            versions: vec![version],
            port,
            min_memory: mib(64),
            accounts: None,
            configuration: false,
            upgrade: false,
            resize: false,
        }
    }

    /// Returns the abilities that the driver declares.
    pub fn abilities(&self) -> AbilitySet {
        AbilitySet {
            accounts: self.accounts.is_some(),
            configuration: self.configuration,
            upgrade: self.upgrade,
            resize: self.resize,
        }
    }

    /// Returns [`Invalid`](crate::error::Kind::Invalid) unless the driver can run this version.
    pub fn check_version(&self, version: &str) -> Result<()> {
        let begins = |series: &String| {
            let rest = version.strip_prefix(series.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let number = version.split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
        if number && self.series.iter().any(begins) {
            return Ok(());
        }
        let known = self.series.join(", ");
        Err(Error::invalid(format!("datastore {} cannot run version {version:?}; it can run: {known}", self.name)))
    }

    /// Returns the version of this name, or the default version.
    /// [`NotFound`](crate::error::Kind::NotFound) lists the known ones.
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
    /// The name: `17`.
    pub name: String,
    /// The image that its servers run from.
    pub image: String,
}

impl Version {
    /// Creates a version.
    pub fn new(name: impl Into<String>, image: impl Into<String>) -> Self {
        Self { name: name.into(), image: image.into() }
    }
}

/// An engine's rules for names and passwords, checked before anything is created.
///
/// Quotes, backslashes, semicolons, spaces and any letter are allowed, because engines quote names.
/// Control characters, and white space at the start or end of a name, are not: they cannot be
/// typed, seen or written into a connection file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AccountRules {
    /// False if all users share all data, so that there are no databases to create or grant.
    pub databases: bool,
    /// The maximum length of a database name, in bytes of UTF-8.
    pub max_database_bytes: usize,
    /// The maximum length of a user name, in bytes of UTF-8.
    pub max_user_bytes: usize,
    /// The maximum length of a password, in bytes of UTF-8.
    pub max_password_bytes: usize,
    /// True if a user is identified by its name and its host.
    pub hosts: bool,
    /// Reserved database names, in lower case. Compared ignoring ASCII case.
    pub reserved_databases: Vec<String>,
    /// Reserved user names, in lower case. Compared ignoring ASCII case.
    pub reserved_users: Vec<String>,
    /// Reserved prefixes of database and user names. Compared ignoring ASCII case.
    pub reserved_prefixes: Vec<String>,
}

impl AccountRules {
    /// Creates rules with one maximum length for all names, at most 128 bytes for passwords, and
    /// only the prefix `trove_` reserved.
    pub fn new(max_name_bytes: usize) -> Self {
        Self {
            databases: true,
            max_database_bytes: max_name_bytes,
            max_user_bytes: max_name_bytes,
            max_password_bytes: 128,
            hosts: false,
            reserved_databases: Vec::new(),
            reserved_users: Vec::new(),
            reserved_prefixes: vec!["trove_".to_owned()],
        }
    }

    /// Returns [`Invalid`](crate::error::Kind::Invalid) unless this is a valid database name, or
    /// [`Unsupported`](crate::error::Kind::Unsupported) if the engine has no databases.
    pub fn check_database(&self, name: &str) -> Result<()> {
        if !self.databases {
            return Err(no_databases());
        }
        self.check_name("database", name, self.max_database_bytes, &self.reserved_databases)
    }

    /// Returns [`Invalid`](crate::error::Kind::Invalid) unless this is a valid user name and host.
    pub fn check_user(&self, user: &UserName) -> Result<()> {
        self.check_name("user", &user.name, self.max_user_bytes, &self.reserved_users)?;
        match &user.host {
            Some(host) if self.hosts => check_host(host),
            Some(_) => Err(no_hosts()),
            None => Ok(()),
        }
    }

    /// Checks the name of a database that may exist. Unlike that of a new one, it may be reserved or
    /// contain control characters, because clients of the server can create databases too.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::error::Kind::Invalid) if no database can have this name, and
    /// [`Unsupported`](crate::error::Kind::Unsupported) if the engine has no databases.
    pub fn check_existing_database(&self, name: &str) -> Result<()> {
        if !self.databases {
            return Err(no_databases());
        }
        check_length("database", name, self.max_database_bytes)
    }

    /// Checks the name and host of a user that may exist. Unlike those of a new one, they may be
    /// reserved or contain control characters, because clients of the server can create users too.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::error::Kind::Invalid) if no user can have this name or host.
    pub fn check_existing_user(&self, user: &UserName) -> Result<()> {
        check_length("user", &user.name, self.max_user_bytes)?;
        match &user.host {
            Some(_) if !self.hosts => Err(no_hosts()),
            Some(host) if host.len() > MAX_HOST_BYTES => {
                Err(Error::invalid(format!("a user's host must not exceed {MAX_HOST_BYTES} bytes")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Returns [`Invalid`](crate::error::Kind::Invalid) unless this is a valid password. The
    /// message does not contain it.
    pub fn check_password(&self, password: &SecretString) -> Result<()> {
        let password = password.expose_secret();
        if password.is_empty() {
            return Err(Error::invalid("a password must not be empty"));
        }
        if password.len() > self.max_password_bytes {
            return Err(Error::invalid(format!("a password must not exceed {} bytes", self.max_password_bytes)));
        }
        if password.chars().any(char::is_control) {
            return Err(Error::invalid("a password must not contain control characters"));
        }
        Ok(())
    }

    fn check_name(&self, what: &str, name: &str, max_bytes: usize, reserved: &[String]) -> Result<()> {
        let lower = name.to_ascii_lowercase();
        check_length(what, name, max_bytes)?;
        if name.chars().any(char::is_control) {
            Err(Error::invalid(format!("a {what} name must not contain control characters: {name:?}")))
        } else if name.trim() != name {
            Err(Error::invalid(format!("a {what} name must not start or end with white space: {name:?}")))
        } else if reserved.contains(&lower) {
            Err(Error::invalid(format!("the {what} name {name:?} is reserved")))
        } else if let Some(prefix) = self.reserved_prefixes.iter().find(|prefix| lower.starts_with(prefix.as_str())) {
            Err(Error::invalid(format!("{what} names that start with {prefix:?} are reserved: {name:?}")))
        } else {
            Ok(())
        }
    }
}

fn check_length(what: &str, name: &str, max_bytes: usize) -> Result<()> {
    if name.is_empty() {
        return Err(Error::invalid(format!("a {what} name must not be empty")));
    }
    if name.len() > max_bytes {
        let length = name.len();
        return Err(Error::invalid(format!("a {what} name must not exceed {max_bytes} bytes; this one has {length}")));
    }
    Ok(())
}

fn no_hosts() -> Error {
    Error::invalid("this datastore does not support hosts of users")
}

/// Accepts an address or a pattern of one. Host names are rejected: servers do not resolve them, so
/// that no DNS server decides who may connect.
fn check_host(host: &str) -> Result<()> {
    let fits = |byte: u8| byte.is_ascii_hexdigit() || b".:%_/".contains(&byte);
    if host.is_empty() || host.len() > MAX_HOST_BYTES || !host.bytes().all(fits) {
        return Err(Error::invalid(format!(
            "a user's host must be an IP address or a pattern such as 10.0.%, not {host:?}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_names_are_rejected_with_the_reason() {
        let mut rules = AccountRules::new(63);
        rules.reserved_users.push("root".to_owned());
        let refused = |name: &str| rules.check_user(&name.into()).unwrap_err().to_string();
        assert!(refused("").contains("empty"));
        assert!(refused(&"x".repeat(64)).contains("63 bytes"));
        assert!(refused(&"ä".repeat(32)).contains("63 bytes"));
        assert!(refused("a\0b").contains("control"));
        assert!(refused("a\nb").contains("control"));
        assert!(refused(" a").contains("white space"));
        assert!(refused("Root").contains("reserved"));
        assert!(refused("TROVE_admin").contains("reserved"));
        for fine in ["a", "o'brien", "a\"b", "a;drop table x;--", "名前", "100%", "a\\b", &"x".repeat(63)] {
            rules.check_user(&fine.into()).unwrap();
        }
        assert!(rules.check_user(&UserName::new("a").at("%")).unwrap_err().to_string().contains("host"));
        rules.hosts = true;
        for host in ["%", "10.0.0.%", "192.168.0.0/255.255.0.0", "2001:db8::1"] {
            rules.check_user(&UserName::new("a").at(host)).unwrap();
        }
        for host in ["", "localhost", "db.example", "10.0.0.1'", "::1\0", &"1".repeat(61)] {
            assert!(rules.check_user(&UserName::new("a").at(host)).is_err(), "{host:?}");
        }
    }

    #[test]
    fn versions_match_a_series_by_whole_numbers() {
        let mut manifest = Manifest::new("memory", Version::new("8.4", "memory:8.4"), 1);
        manifest.series.push("9".to_owned());
        for version in ["8.4", "8.4.10", "9", "9.7", "9.7.4"] {
            manifest.check_version(version).unwrap();
        }
        for version in ["", "8", "8.40", "8.4-x", "90", "9.", "10.1"] {
            assert!(manifest.check_version(version).unwrap_err().to_string().contains("8.4, 9"), "{version:?}");
        }
    }

    #[test]
    fn rejected_passwords_do_not_appear_in_the_error() {
        let rules = AccountRules::new(63);
        for password in ["hunter2\n".to_owned(), "hunter2".repeat(40)] {
            let error = rules.check_password(&SecretString::from(password)).unwrap_err();
            assert!(!error.report().contains("hunter2"));
        }
    }
}
