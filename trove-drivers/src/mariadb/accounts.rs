use sha1::{Digest, Sha1};
use trove_core::{
    error::{Error, Result},
    secret::{ExposeSecret, SecretString},
};

use super::MariaDbVariant;
use crate::mysql_family::{Dialect, from_pattern, literal, pattern};

/// The maximum length of a database pattern that the server can store.
const PATTERN_CHARS: usize = 64;

/// The privileges of the tenant's root on all databases except the server's own. Root cannot grant:
/// a grant on a pattern would include the server's own databases.
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

    const IS_LOCKED: &str = "TRUE";

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

    /// A user who may change accounts or grant tables can change any account, so root may do neither.
    /// Privileges on a database by name take precedence over those on the pattern of all databases.
    /// The binary log contains the password hashes of all users, so root may not read it.
    fn root_grants(account: &str) -> Vec<String> {
        vec![
            format!("GRANT SHOW DATABASES, PROCESS ON *.* TO {account}"),
            format!("GRANT SHOW VIEW ON mysql.* TO {account}"),
            format!("GRANT SELECT, EXECUTE, SHOW VIEW ON sys.* TO {account}"),
            format!("GRANT SELECT ON performance_schema.* TO {account}"),
            format!("GRANT {ROOT_RIGHTS} ON `%`.* TO {account}"),
        ]
    }

    /// Root has none.
    fn revoke_administration(_account: &str) -> Vec<String> {
        Vec::new()
    }
}

fn with_hash(hash: &str) -> String {
    format!("IDENTIFIED VIA mysql_native_password USING {}", literal(hash))
}

/// Returns the hash that the server stores, so that the password itself never reaches the server.
fn hash(password: &str) -> String {
    let hashed = Sha1::digest(Sha1::digest(password.as_bytes()));
    hashed.iter().fold(String::from('*'), |text, byte| format!("{text}{byte:02X}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_hashes_match_the_server() {
        assert_eq!(hash("password"), "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19");
    }

    #[test]
    fn database_names_must_fit_as_patterns() {
        for fine in [&"x".repeat(64), &"_".repeat(32)] {
            MariaDbVariant::check_database(fine).unwrap();
        }
        assert!(MariaDbVariant::check_database(&"_".repeat(33)).is_err());
    }
}
