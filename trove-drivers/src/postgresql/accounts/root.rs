//! The tenant's root: it creates databases and roles, and is a member of all of the tenant's roles
//! and of those predefined roles that do not lead to files, programs, other roles or the
//! administrator.

use tokio_postgres::GenericClient;
use trove_core::{error::Result, secret::SecretString};

use super::{
    roles::{TENANT_ROLES, exists, terminate},
    verifier,
};
use crate::postgresql::{
    ROOT,
    connection::{AdminSession, addressable, translate},
    sql::{identifier, literal},
};

/// Sets root's password and lets it log in.
///
/// If `CREATEROLE` covers all roles, root does not get it: users are then created, renamed and
/// given passwords through the service only.
///
/// A role with `pg_maintain` can lock the system catalogs, and thereby lock out everybody else; so
/// root does not get it, and loses an earlier grant of it.
pub(super) async fn enable(mut session: AdminSession, password: &SecretString) -> Result<String> {
    let verifier = verifier(password).await?;
    let major = session.major;
    let change = session.client.transaction().await.map_err(translate)?;
    let (role, password) = (identifier(ROOT), literal(&verifier));
    let verb = if exists(&change, ROOT).await? { "ALTER" } else { "CREATE" };
    let makes_roles = if major.bounds_role_makers() { "CREATEROLE" } else { "NOCREATEROLE" };
    let mut sql = format!(
        "{verb} ROLE {role} WITH LOGIN CREATEDB {makes_roles} INHERIT NOSUPERUSER NOREPLICATION NOBYPASSRLS \
         PASSWORD {password}; \
         GRANT pg_monitor, pg_signal_backend, pg_checkpoint TO {role}; \
         GRANT CONNECT ON DATABASE postgres TO {role}"
    );
    if major.has_maintainers() {
        sql.push_str(&format!("; REVOKE pg_maintain FROM {role}"));
    }
    change.batch_execute(&sql).await.map_err(translate)?;
    let roles = format!("SELECT r.rolname::text FROM pg_roles r WHERE {TENANT_ROLES}");
    for found in addressable(&change.query(&roles, &[]).await.map_err(translate)?) {
        join(&change, &found).await?;
    }
    change.commit().await.map_err(translate)?;
    Ok(ROOT.to_owned())
}

/// Prevents root from logging in and ends its sessions. Members of root, and callers of functions that run as it,
/// keep its access to data, but no longer administer roles or the server.
pub(super) async fn disable(session: &AdminSession) -> Result<()> {
    if !exists(&session.client, ROOT).await? {
        return Ok(());
    }
    let role = identifier(ROOT);
    // A session of root could undo this until the session has ended.
    for _ in 0..2 {
        session
            .run(&format!(
                "ALTER ROLE {role} NOLOGIN NOCREATEROLE NOCREATEDB PASSWORD NULL; \
                 REVOKE pg_monitor, pg_signal_backend, pg_checkpoint FROM {role}"
            ))
            .await?;
        let members = "SELECT m.member::regrole::text FROM pg_auth_members m WHERE m.roleid = $1::text::regrole";
        // The server has quoted these names.
        for member in addressable(&session.client.query(members, &[&role]).await.map_err(translate)?) {
            session.run(&format!("REVOKE {role} FROM {member} CASCADE")).await?;
        }
        terminate(session, ROOT, None).await?;
    }
    Ok(())
}

/// Returns true if root can log in.
pub(super) async fn enabled(session: &AdminSession) -> Result<bool> {
    let sql = "SELECT FROM pg_roles WHERE rolname = $1::text AND rolcanlogin";
    Ok(session.client.query_opt(sql, &[&ROOT]).await.map_err(translate)?.is_some())
}

/// Makes root a member of a new role, if there is a root.
pub(super) async fn include(client: &impl GenericClient, role: &str) -> Result<()> {
    if exists(client, ROOT).await? { join(client, role).await } else { Ok(()) }
}

async fn join(client: &impl GenericClient, role: &str) -> Result<()> {
    let sql = format!("GRANT {} TO {} WITH ADMIN OPTION", identifier(role), identifier(ROOT));
    client.batch_execute(&sql).await.map_err(translate)
}
