//! What MySQL and MariaDB truly share: the protocol, the quoting, the way of their settings and most of their accounts.
//!
//! The service administers a server as [`ADMIN`], which has no password: it is let in over the server's socket only, by
//! the credentials of the process at the other end. What differs is in a [`Dialect`].

mod accounts;
mod client;
mod config;
mod connection;
mod dialect;
mod engine;
mod limits;
mod memory_budget;
mod packet_stream;
mod parameters;
mod reserved;
mod server_error;
mod sql;
mod startup_error;
mod version;

use trove_core::{
    datastore::AccountRules,
    error::{Error, Result},
};

use accounts::FamilyAccounts;
use config::{check_settings, main_file, max_processes, settings_file, size_file};
pub(crate) use connection::{AdminConnector, AdminSession};
pub(crate) use dialect::Dialect;
#[cfg(test)]
pub(crate) use engine::files;
pub(crate) use engine::{FamilyEngine, Variant, server_command};
pub(crate) use memory_budget::MemoryBudget;
pub(crate) use reserved::reserved;
pub(crate) use sql::{from_pattern, identifier, literal, pattern};
use startup_error::startup_error;
pub(crate) use version::{ServerVersion, version_after};

/// The port a server listens on in its own network.
pub(crate) const PORT: u16 = 3306;

/// The path at which a server sees its volume.
const DATA_VOLUME: &str = "/var/lib/mysql";

/// The name of the socket.
pub(crate) const SOCKET: &str = "mysql.sock";

/// The account by which the service administers a server.
pub(crate) const ADMIN: &str = "trove_admin@localhost";

/// The tenant's root.
const ROOT: &str = "root";

/// The longest name of a database, in characters and, to be safe, in bytes.
const DATABASE_BYTES: usize = 64;

/// The longest name of a directory.
const DIRECTORY_BYTES: usize = 255;

/// The engines' own databases.
const OWN_DATABASES: [&str; 4] = ["information_schema", "mysql", "performance_schema", "sys"];

/// What names have to be like, with users' names of so many bytes.
pub(crate) fn rules(user_bytes: usize) -> AccountRules {
    let mut rules = AccountRules::new(DATABASE_BYTES);
    rules.max_user_bytes = user_bytes;
    rules.hosts = true;
    rules.reserved_databases.extend(OWN_DATABASES.map(str::to_owned));
    rules.reserved_users.extend([ROOT, "public", "server"].map(str::to_owned));
    rules.reserved_prefixes.extend(["mysql.", "mariadb.", "#mysql50#"].map(str::to_owned));
    rules
}

/// [`Invalid`](trove_core::error::Kind::Invalid) for what the servers cannot write down: they know letters of the basic
/// plane only.
fn check_letters(name: &str) -> Result<()> {
    match name.chars().find(|letter| u32::from(*letter) > 0xffff) {
        Some(letter) => Err(Error::invalid(format!("the database server knows no names with {letter:?}: {name:?}"))),
        None => Ok(()),
    }
}

/// [`Invalid`](trove_core::error::Kind::Invalid) for databases whose directories would have too long a name: all but plain
/// letters, digits and `_` is written there with five letters.
fn check_directory(name: &str) -> Result<()> {
    let letters = name.chars().map(|letter| if letter.is_ascii_alphanumeric() || letter == '_' { 1 } else { 5 });
    match letters.sum::<usize>() <= DIRECTORY_BYTES {
        true => Ok(()),
        false => Err(Error::invalid(format!("a database name holds too many signs and foreign letters: {name:?}"))),
    }
}

/// [`Invalid`](trove_core::error::Kind::Invalid) for users who could not log in: the servers take quotes around a name
/// for the client's.
fn check_quotes(name: &str) -> Result<()> {
    match name.len() > 1 && name.starts_with('\'') && name.ends_with('\'') {
        true => Err(Error::invalid(format!("a user name must not begin and end with a quote: {name:?}"))),
        false => Ok(()),
    }
}
