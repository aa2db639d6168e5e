use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::no_databases;
use crate::{
    error::{Error, Result},
    model::{ByteSize, UserName, mib},
};

/// The version of the driver contract that this library speaks. It changes where a driver that was right becomes wrong.
pub const CONTRACT_VERSION: u32 = 1;

/// Longer than any address with a mask.
const MAX_HOST_BYTES: usize = 60;

/// What a driver tells about its engine before any instance exists.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Manifest {
    /// What the datastore is called: `postgresql`.
    pub name: String,
    /// The version of the contract that the driver was written to: [`CONTRACT_VERSION`] of the library it is built with.
    pub contract: u32,
    /// The longest that a call may go without telling [progress](super::Cx::progress) or ending.
    pub max_silence: Duration,
    /// The versions on offer until an operator says otherwise; the first is the default of a registry that is new.
    pub versions: Vec<Version>,
    /// The series of versions that the driver can run, such as `17`, `8.4`: all whose numbers begin so.
    pub series: Vec<String>,
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
    /// A datastore with one version, no accounts, 64 MiB as the least memory and 30 seconds as the longest silence.
    pub fn new(name: impl Into<String>, version: Version, port: u16) -> Self {
        let name = name.into();
        Self {
            uri_scheme: name.clone(),
            name,
            contract: CONTRACT_VERSION,
            max_silence: Duration::from_secs(30),
            series: vec![version.name.clone()],
            versions: vec![version],
            port,
            min_memory: mib(64),
            accounts: None,
        }
    }

    /// [`Invalid`](crate::error::Kind::Invalid) unless the driver can run this version of its engine.
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
    /// False where all users share all that the server holds, so that there are no databases to create or grant.
    pub databases: bool,
    /// The longest name of a database, in bytes of UTF-8.
    pub max_database_bytes: usize,
    /// The longest name of a user, in bytes of UTF-8.
    pub max_user_bytes: usize,
    /// The longest password, in bytes of UTF-8.
    pub max_password_bytes: usize,
    /// True where users are told apart by the host they come from, too.
    pub hosts: bool,
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

    /// [`Invalid`](crate::error::Kind::Invalid) unless a database may be called so;
    /// [`Unsupported`](crate::error::Kind::Unsupported) where there are none.
    pub fn check_database(&self, name: &str) -> Result<()> {
        if !self.databases {
            return Err(no_databases());
        }
        self.check_name("database", name, self.max_database_bytes, &self.reserved_databases)
    }

    /// [`Invalid`](crate::error::Kind::Invalid) unless a user may be called so, and come from there.
    pub fn check_user(&self, user: &UserName) -> Result<()> {
        self.check_name("user", &user.name, self.max_user_bytes, &self.reserved_users)?;
        match &user.host {
            Some(host) if self.hosts => check_host(host),
            Some(_) => Err(Error::invalid("this datastore does not tell users apart by their host")),
            None => Ok(()),
        }
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

/// An address, or a pattern of one. Names are refused: servers do not look them up, so that no name server decides who
/// may connect.
fn check_host(host: &str) -> Result<()> {
    let fits = |byte: u8| byte.is_ascii_hexdigit() || b".:%_/".contains(&byte);
    if host.is_empty() || host.len() > MAX_HOST_BYTES || !host.bytes().all(fits) {
        return Err(Error::invalid(format!(
            "a user's host is an IP address, or a pattern of one such as 10.0.%; not {host:?}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_refused_for_their_own_reason() {
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
    fn versions_belong_to_a_series() {
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
    fn a_refused_password_is_not_in_the_message() {
        let rules = AccountRules::new(63);
        for password in ["hunter2\n".to_owned(), "hunter2".repeat(40)] {
            let error = rules.check_password(&SecretString::from(password)).unwrap_err();
            assert!(!error.report().contains("hunter2"));
        }
    }
}
