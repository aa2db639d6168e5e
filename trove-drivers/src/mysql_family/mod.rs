//! The common parts of MySQL and MariaDB: the engine, the protocol, the quoting, the settings and
//! most of the accounts.
//!
//! The service administers a server as [`ADMIN`], which has no password: the server authenticates
//! it on its socket only, by the credentials of the connecting process. The SQL that differs is in
//! a [`Dialect`], other differences are in a [`Variant`].

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

/// The port of a server in its own network.
pub(crate) const PORT: u16 = 3306;

/// The path at which a server sees its volume.
const DATA_VOLUME: &str = "/var/lib/mysql";

/// The file name of the socket.
pub(crate) const SOCKET: &str = "mysql.sock";

/// The account by which the service administers a server.
pub(crate) const ADMIN: &str = "trove_admin@localhost";

/// The tenant's root.
const ROOT: &str = "root";

/// The maximum length of a database name, in characters and, to be safe, in bytes.
const DATABASE_BYTES: usize = 64;

/// The maximum length of a directory name.
const DIRECTORY_BYTES: usize = 255;

/// The servers' own databases.
const OWN_DATABASES: [&str; 4] = ["information_schema", "mysql", "performance_schema", "sys"];

/// Returns the rules for names, given the maximum length of user names in bytes.
pub(crate) fn rules(user_bytes: usize) -> AccountRules {
    let mut rules = AccountRules::new(DATABASE_BYTES);
    rules.max_user_bytes = user_bytes;
    rules.hosts = true;
    rules.reserved_databases.extend(OWN_DATABASES.map(str::to_owned));
    rules.reserved_users.extend([ROOT, "public", "server"].map(str::to_owned));
    rules.reserved_prefixes.extend(["mysql.", "mariadb.", "#mysql50#"].map(str::to_owned));
    rules
}

/// Returns [`Invalid`](trove_core::error::Kind::Invalid) for characters that the servers cannot
/// store: they support the basic multilingual plane only.
fn check_letters(name: &str) -> Result<()> {
    match name.chars().find(|letter| u32::from(*letter) > 0xffff) {
        Some(letter) => {
            Err(Error::invalid(format!("the database server does not support {letter:?} in names: {name:?}")))
        }
        None => Ok(()),
    }
}

/// Returns [`Invalid`](trove_core::error::Kind::Invalid) for databases whose directory names would
/// be too long: every character except ASCII letters, digits and `_` takes five there.
fn check_directory(name: &str) -> Result<()> {
    let letters = name.chars().map(|letter| if letter.is_ascii_alphanumeric() || letter == '_' { 1 } else { 5 });
    match letters.sum::<usize>() <= DIRECTORY_BYTES {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "a database name contains too many characters that the server must escape in file names: {name:?}"
        ))),
    }
}

/// Returns [`Invalid`](trove_core::error::Kind::Invalid) for users who could not log in: the
/// servers strip quotes around a name.
fn check_quotes(name: &str) -> Result<()> {
    match name.len() > 1 && name.starts_with('\'') && name.ends_with('\'') {
        true => Err(Error::invalid(format!("a user name must not begin and end with a quote: {name:?}"))),
        false => Ok(()),
    }
}
