//! Privileges of accounts on databases.

use std::collections::BTreeSet;

use trove_core::error::Result;

use super::account::{Account, query_accounts};
use crate::mysql_family::{AdminSession, Dialect, identifier, literal};

/// Error codes for a grant, a table or a routine that does not exist.
pub(super) const NO_SUCH_GRANT: [u16; 4] = [1141, 1147, 1403, 1146];

/// Grants an account all privileges on databases.
pub(super) async fn grant_all<D: Dialect>(
    session: &mut AdminSession,
    account: &Account,
    databases: &[String],
) -> Result<()> {
    for database in databases {
        let pattern = identifier(&D::database_pattern(database));
        session.run(&format!("GRANT ALL PRIVILEGES ON {pattern}.* TO {}", account.quoted())).await?;
    }
    Ok(())
}

/// Revokes all privileges of an account on a database and on single objects in it.
pub(super) async fn revoke_all<D: Dialect>(
    session: &mut AdminSession,
    account: &Account,
    database: &str,
) -> Result<()> {
    let (user, pattern) = (account.quoted(), identifier(&D::database_pattern(database)));
    let mut statements = vec![format!("REVOKE ALL PRIVILEGES ON {pattern}.* FROM {user}")];
    let condition = format!("{} AND Db = {}", account.condition(), literal(database));
    let queries = [
        format!("SELECT 'TABLE', Table_name FROM mysql.tables_priv WHERE {condition}"),
        format!("SELECT Routine_type, Routine_name FROM mysql.procs_priv WHERE {condition}"),
    ];
    for sql in queries {
        for row in session.rows(&sql).await? {
            if let Ok([Some(kind), Some(name)]) = <[_; 2]>::try_from(row) {
                // The kind is not quoted, so only known keywords are used.
                let kind = if ["TABLE", "PROCEDURE", "FUNCTION"].contains(&kind.as_str()) { kind } else { continue };
                let object = format!("{kind} {}.{}", identifier(database), identifier(&name));
                statements.push(format!("REVOKE ALL PRIVILEGES ON {object} FROM {user}"));
            }
        }
    }
    for sql in statements {
        session.run_ignoring(&NO_SUCH_GRANT, &sql).await?;
    }
    Ok(())
}

/// Revokes on one database the privileges that an account may have on all databases.
pub(super) async fn revoke_global<D: Dialect>(
    session: &mut AdminSession,
    account: &Account,
    database: &str,
) -> Result<()> {
    for privilege in D::PARTIALLY_REVOCABLE {
        let pattern = identifier(&D::database_pattern(database));
        let sql = format!("REVOKE {privilege} ON {pattern}.* FROM {}", account.quoted());
        session.run_ignoring(&NO_SUCH_GRANT, &sql).await?;
    }
    Ok(())
}

/// Revokes the privileges on a dropped database from all accounts.
pub(super) async fn revoke_from_everyone<D: Dialect>(session: &mut AdminSession, database: &str) -> Result<()> {
    let mut grantees = BTreeSet::new();
    for (table, name) in [
        ("db", D::database_pattern(database)),
        ("tables_priv", database.to_owned()),
        ("procs_priv", database.to_owned()),
    ] {
        let sql = format!("SELECT DISTINCT User, Host FROM mysql.{table} WHERE Db = {}", literal(&name));
        grantees.extend(query_accounts(session, &sql).await?);
    }
    for account in grantees {
        revoke_all::<D>(session, &account, database).await?;
    }
    Ok(())
}

/// Returns the database patterns that an account has privileges on, as the server stores them.
pub(super) async fn granted_patterns(session: &mut AdminSession, account: &Account) -> Result<Vec<String>> {
    let rows = session.rows(&format!("SELECT Db FROM mysql.db WHERE {}", account.condition())).await?;
    Ok(rows.into_iter().flatten().flatten().collect())
}
