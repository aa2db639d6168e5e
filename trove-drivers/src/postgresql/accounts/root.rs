//! The tenant's root: it makes databases and roles and is a member of every role of the tenant's, and of those of the
//! server's own that cannot lead to files, programs, other roles or the administrator.

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

/// Gives root this password and lets it log in.
///
/// Where the right to make roles is one over all roles, root does not have it: users are then made, renamed and given
/// passwords through the service only.
///
/// Who may maintain everything may lock the catalog, and with it everybody else out; so root may not, nor keep what
/// it was given of that before.
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

/// Keeps root from logging in and ends its sessions.
pub(super) async fn disable(session: &AdminSession) -> Result<()> {
    if exists(&session.client, ROOT).await? {
        session.run(&format!("ALTER ROLE {} NOLOGIN PASSWORD NULL", identifier(ROOT))).await?;
        terminate(session, ROOT, None).await?;
    }
    Ok(())
}

/// True where root may log in.
pub(super) async fn enabled(session: &AdminSession) -> Result<bool> {
    let sql = "SELECT FROM pg_roles WHERE rolname = $1::text AND rolcanlogin";
    Ok(session.client.query_opt(sql, &[&ROOT]).await.map_err(translate)?.is_some())
}

/// Makes root a member of a new role, where there is a root.
pub(super) async fn include(client: &impl GenericClient, role: &str) -> Result<()> {
    if exists(client, ROOT).await? { join(client, role).await } else { Ok(()) }
}

async fn join(client: &impl GenericClient, role: &str) -> Result<()> {
    let sql = format!("GRANT {} TO {} WITH ADMIN OPTION", identifier(role), identifier(ROOT));
    client.batch_execute(&sql).await.map_err(translate)
}
