//! Roles of the server.

use tokio_postgres::GenericClient;
use trove_core::error::Result;

use crate::postgresql::connection::{AdminSession, translate};

/// Selects roles other than the server's own, the administrator and root. 16384 is the first oid
/// that is assigned after initialization.
pub(super) const TENANT_ROLES: &str = "NOT r.rolsuper AND r.oid >= 16384 AND r.rolname <> 'root'";

/// Selects those of them that are users.
pub(super) const TENANT_USERS: &str = "r.rolcanlogin AND NOT r.rolsuper AND r.oid >= 16384 AND r.rolname <> 'root'";

/// Ends the sessions of a role, in one database or in all.
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
