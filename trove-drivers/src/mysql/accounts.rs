use trove_core::{
    error::Result,
    secret::{ExposeSecret, SecretString},
};

use super::{MySqlVariant, password};
use crate::mysql_family::{Dialect, literal};

/// Like the hash of the server's own accounts: no password matches it.
const UNUSABLE_HASH: &str = "$A$005$THISISACOMBINATIONOFINVALIDSALTANDPASSWORDTHATMUSTNEVERBRBEUSED";

/// All privileges on a database; the read-only ones come first.
const RIGHTS: &[&str] = &[
    "SELECT",
    "EXECUTE",
    "SHOW VIEW",
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "DROP",
    "REFERENCES",
    "INDEX",
    "ALTER",
    "CREATE TEMPORARY TABLES",
    "LOCK TABLES",
    "CREATE VIEW",
    "CREATE ROUTINE",
    "ALTER ROUTINE",
    "EVENT",
    "TRIGGER",
];
const READS: usize = 3;

/// Further privileges of the tenant's root: monitoring, and managing the tenant's accounts.
const ROOT_RULES: &str = "SHOW DATABASES, PROCESS, REPLICATION CLIENT, CREATE USER, CREATE ROLE, DROP ROLE";

impl Dialect for MySqlVariant {
    const READ_ONLY: &str = "@@GLOBAL.super_read_only";
    const UNLIMITED_STATEMENTS: &str = "SET SESSION max_execution_time = 0";
    const ALLOW_WRITES: &[&str] = &["SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF"];
    const PARTIALLY_REVOCABLE: &[&str] = RIGHTS;
    const UNUSABLE_HASH: &str = UNUSABLE_HASH;
    const IS_ROLE: &str = "account_locked = 'Y' AND password_expired = 'Y' AND authentication_string = ''";

    const IS_LOCKED: &str = "account_locked = 'Y'";

    fn unusable_password() -> String {
        with_hash(UNUSABLE_HASH)
    }

    fn password(password: &SecretString) -> Result<String> {
        Ok(with_hash(&password::verifier(password.expose_secret())?))
    }

    /// With partial revokes, names are not patterns.
    fn database_pattern(database: &str) -> String {
        database.to_owned()
    }

    fn database_name(pattern: &str) -> String {
        pattern.to_owned()
    }

    fn check_database(_name: &str) -> Result<()> {
        Ok(())
    }

    /// Accounts with `SYSTEM_USER`, like the administrator's, are out of root's reach, and so are
    /// the grant tables. Root cannot grant more than it has.
    fn root_grants(account: &str) -> Vec<String> {
        let (all, writes) = (RIGHTS.join(", "), RIGHTS[READS..].join(", "));
        vec![
            format!("GRANT {all}, {ROOT_RULES} ON *.* TO {account} WITH GRANT OPTION"),
            format!("REVOKE {all} ON mysql.* FROM {account}"),
            format!("REVOKE {writes} ON sys.* FROM {account}"),
        ]
    }

    fn revoke_administration(account: &str) -> Vec<String> {
        vec![format!("REVOKE {ROOT_RULES}, GRANT OPTION ON *.* FROM {account}")]
    }
}

fn with_hash(hash: &str) -> String {
    format!("IDENTIFIED WITH caching_sha2_password AS {}", literal(hash))
}
