//! Roles of the server.

use tokio_postgres::GenericClient;
use trove_core::error::Result;

use crate::postgresql::connection::{AdminSession, translate};

/// Roles that are not the server's own, the administrator or root. 16384 is the first number the server gives to what
/// is made after its initialisation.
pub(super) const TENANT_ROLES: &str = "NOT r.rolsuper AND r.oid >= 16384 AND r.rolname <> 'root'";

/// Of those, the ones that are users.
pub(super) const TENANT_USERS: &str = "r.rolcanlogin AND NOT r.rolsuper AND r.oid >= 16384 AND r.rolname <> 'root'";

/// Ends the sessions of a role, in one database or everywhere.
pub(super) async fn terminate(session: &AdminSession, role: &str, database: Option<&str>) -> Result<()> {
    let sql = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
               WHERE usename = $1::text AND ($2::text IS NULL OR datname = $2::text)";
    session.client.query(sql, &[&role, &database]).await.map(drop).map_err(translate)
}

/// Returns true if there is a role of this name.
pub(super) async fn exists(client: &impl GenericClient, name: &str) -> Result<bool> {
    let found = client.query_opt("SELECT FROM pg_roles WHERE rolname = $1::text", &[&name]).await;
    Ok(found.map_err(translate)?.is_some())
}
