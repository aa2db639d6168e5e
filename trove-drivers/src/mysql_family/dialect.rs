use std::fmt::Debug;

use trove_core::{error::Result, secret::SecretString};

/// The differences between the SQL that administers MySQL and MariaDB.
pub(crate) trait Dialect: Debug + Send + Sync + 'static {
    /// The variable that is 0 if the server accepts writes.
    const READ_ONLY: &str;

    /// The statement that lifts the time limit of statements in a session.
    const UNLIMITED_STATEMENTS: &str;

    /// The statements that let clients write.
    const ALLOW_WRITES: &[&str];

    /// The privileges on all databases that can be revoked on a single one.
    const PARTIALLY_REVOCABLE: &[&str];

    /// The stored hash of an account that nobody can log in to.
    const UNUSABLE_HASH: &str;

    /// The condition that selects roles in `mysql.user`.
    const IS_ROLE: &str;

    /// The condition that selects locked accounts in `mysql.user`, if it shows them.
    const IS_LOCKED: &str;

    /// Returns the clause that gives an account a password that nobody has.
    fn unusable_password() -> String;

    /// Returns the clause that sets a password, with only the hash that the server stores. Takes CPU time.
    fn password(password: &SecretString) -> Result<String>;

    /// Returns the name of a database as `GRANT` takes it.
    fn database_pattern(database: &str) -> String;

    /// Returns the database that a pattern of [`database_pattern`](Self::database_pattern) names.
    fn database_name(pattern: &str) -> String;

    /// Checks that privileges on a database of this name can be granted.
    ///
    /// # Errors
    ///
    /// [`Invalid`](trove_core::error::Kind::Invalid) if they cannot.
    fn check_database(name: &str) -> Result<()>;

    /// Returns the statements that grant the tenant's root its privileges, to an account that has none.
    fn root_grants(account: &str) -> Vec<String>;

    /// Returns the statements that revoke all privileges to administer accounts that root can grant.
    fn revoke_administration(account: &str) -> Vec<String>;
}
