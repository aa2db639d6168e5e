use sha1::{Digest, Sha1};
use trove_core::{
    error::{Error, Result},
    secret::{ExposeSecret, SecretString},
};

use super::MariaDbVariant;
use crate::mysql_family::{Dialect, from_pattern, literal, pattern};

/// The most letters the server can write down for a database that somebody may use.
const PATTERN_CHARS: usize = 64;

/// What the tenant's root may do with all databases but the server's own. It gives rights to nobody: what is given on a
/// pattern of names would be given on the server's own, too.
const ROOT_RIGHTS: &str = "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, REFERENCES, INDEX, ALTER, \
    CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE, CREATE VIEW, SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, EVENT, \
    TRIGGER, DELETE HISTORY";

impl Dialect for MariaDbVariant {
    const READ_ONLY: &str = "@@GLOBAL.read_only";
    const UNLIMITED_STATEMENTS: &str = "SET SESSION max_statement_time = 0";
    const ALLOW_WRITES: &[&str] = &["SET GLOBAL read_only = OFF"];
    const PARTIALLY_REVOCABLE: &[&str] = &[];
    const UNUSABLE_HASH: &str = "invalid";
    const IS_ROLE: &str = "is_role = 'Y'";

    fn unusable_password() -> String {
        with_hash(Self::UNUSABLE_HASH)
    }

    fn password(password: &SecretString) -> Result<String> {
        Ok(with_hash(&hash(password.expose_secret())))
    }

    fn database_pattern(database: &str) -> String {
        pattern(database)
    }

    fn database_name(pattern: &str) -> String {
        from_pattern(pattern)
    }

    fn check_database(name: &str) -> Result<()> {
        if pattern(name).chars().count() <= PATTERN_CHARS {
            return Ok(());
        }
        let most = PATTERN_CHARS;
        Err(Error::invalid(format!(
            "a database name must not exceed {most} letters, of which '_', '%' and '\\' count twice: {name:?}"
        )))
    }

    /// No account is out of reach of one that may change accounts or the tables in which rights are kept, so root may do
    /// neither. Of the rights on all databases, those on one of them by name come first.
    fn root_grants(account: &str) -> Vec<String> {
        vec![
            format!("GRANT SHOW DATABASES, PROCESS, BINLOG MONITOR ON *.* TO {account}"),
            format!("GRANT SHOW VIEW ON mysql.* TO {account}"),
            format!("GRANT SELECT, EXECUTE, SHOW VIEW ON sys.* TO {account}"),
            format!("GRANT SELECT ON performance_schema.* TO {account}"),
            format!("GRANT {ROOT_RIGHTS} ON `%`.* TO {account}"),
        ]
    }
}

fn with_hash(hash: &str) -> String {
    format!("IDENTIFIED VIA mysql_native_password USING {}", literal(hash))
}

/// What the server keeps of a password, computed here so that the password itself never reaches the server.
fn hash(password: &str) -> String {
    let hashed = Sha1::digest(Sha1::digest(password.as_bytes()));
    hashed.iter().fold(String::from('*'), |text, byte| format!("{text}{byte:02X}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_servers() {
        assert_eq!(hash("password"), "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19");
    }

    #[test]
    fn a_name_has_to_fit_as_a_pattern() {
        for fine in [&"x".repeat(64), &"_".repeat(32)] {
            MariaDbVariant::check_database(fine).unwrap();
        }
        assert!(MariaDbVariant::check_database(&"_".repeat(33)).is_err());
    }
}
