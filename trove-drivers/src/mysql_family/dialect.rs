use std::fmt::Debug;

use trove_core::{error::Result, secret::SecretString};

/// How MySQL and MariaDB differ for who administers them.
pub(crate) trait Dialect: Debug + Send + Sync + 'static {
    /// The variable that tells whether a server takes no writes at all.
    const READ_ONLY: &str;

    /// The statement by which a session's statements may take their time.
    const UNLIMITED: &str;

    /// The statements that let clients write.
    const OPEN: &[&str];

    /// The rights that who has them on all databases can lose on one.
    const REVOCABLE: &[&str];

    /// What the server keeps of a password that nobody has.
    const NO_HASH: &str;

    /// The condition by which a row of `mysql.user` is no user but a role.
    const IS_ROLE: &str;

    /// The clause by which an account has a password that nobody has.
    fn no_password() -> String;

    /// The clause by which an account has this password, of which it holds no more than the server would keep. Takes a
    /// while.
    fn password(password: &SecretString) -> Result<String>;

    /// How a database is named where rights on it are given.
    fn granted(database: &str) -> String;

    /// The database that is so named.
    fn database(granted: &str) -> String;

    /// [`Invalid`](trove_core::error::Kind::Invalid) where rights on a database of this name could not be given.
    fn check_database(name: &str) -> Result<()>;

    /// The statements that give the tenant's root what it may have, to an account that has nothing.
    fn root_rights(account: &str) -> Vec<String>;
}
