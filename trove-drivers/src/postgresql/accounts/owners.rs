//! The roles that own tenants' databases.

use tokio_postgres::GenericClient;
use trove_core::error::{Error, Result};

use super::root;
use crate::postgresql::{
    connection::{LossyText, translate},
    sql::{identifier, literal},
};

/// The prefix of owner roles.
pub(super) const OWNER_PREFIX: &str = "trove_owner_";

/// The bootstrap superuser has the oid 10; what it owns is not the tenant's. A database belongs to
/// it from the first moment of its creation to the last. What an interrupted drop left is not a
/// database any more.
pub(super) const TENANT_DATABASES: &str =
    "d.datdba <> 10 AND d.datconnlimit <> -2 AND d.datname NOT IN ('postgres', 'template0', 'template1')";

/// Returns true if this role is the owner role of a database.
pub(super) async fn is_owner(client: &impl GenericClient, role: &str) -> Result<bool> {
    let sql = format!(
        "SELECT FROM pg_roles r WHERE r.rolname = $1::text AND starts_with(r.rolname, '{OWNER_PREFIX}') \
         AND EXISTS (SELECT FROM pg_database d WHERE d.datdba = r.oid OR '{OWNER_PREFIX}' || d.oid = r.rolname)"
    );
    Ok(client.query_opt(&sql, &[&role]).await.map_err(translate)?.is_some())
}

/// Returns the owner role of one of the tenant's databases;
/// [`NotFound`](trove_core::error::Kind::NotFound) if there is no such database.
///
/// A database that the tenant's root created outside the service gets its owner role here. The
/// former owner keeps access.
pub(super) async fn owner(client: &impl GenericClient, name: &str) -> Result<String> {
    let sql = format!(
        "SELECT d.oid, r.rolname::text, r.rolcanlogin FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba \
         WHERE d.datname = $1::text AND {TENANT_DATABASES}"
    );
    let Some(found) = client.query_opt(&sql, &[&name]).await.map_err(translate)? else {
        return Err(Error::not_found(format!("there is no database {name:?}")));
    };
    let (oid, LossyText(former), logs_in): (u32, _, bool) = (found.get(0), found.get(1), found.get(2));
    if former.starts_with(OWNER_PREFIX) && !logs_in {
        return Ok(former);
    }
    let owner = ensure_owner_role(client, oid, name).await?;
    if owner == former {
        return Ok(owner);
    }
    let change = format!("ALTER DATABASE {} OWNER TO {}", identifier(name), identifier(&owner));
    client.batch_execute(&change).await.map_err(translate)?;
    let keep = format!("GRANT {} TO {}", identifier(&owner), identifier(&former));
    client.batch_execute(&keep).await.map_err(translate)?;
    Ok(owner)
}

pub(super) async fn ensure_owner_role(client: &impl GenericClient, oid: u32, database: &str) -> Result<String> {
    let owner = format!("{OWNER_PREFIX}{oid}");
    let found = client.query_opt("SELECT FROM pg_roles WHERE rolname = $1::text", &[&owner]).await;
    if found.map_err(translate)?.is_none() {
        let (role, comment) = (identifier(&owner), literal(&format!("owner of database {database:?}")));
        let sql = format!("CREATE ROLE {role} NOLOGIN; COMMENT ON ROLE {role} IS {comment}");
        client.batch_execute(&sql).await.map_err(translate)?;
    }
    root::include(client, &owner).await?;
    Ok(owner)
}
