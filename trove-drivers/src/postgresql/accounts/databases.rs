use tokio_postgres::{GenericClient, Row, error::SqlState};
use trove_core::{
    error::{Error, Result},
    model::{Database, NewDatabase, Page, PageRequest},
};

use super::{fetch_limit, root, text, users};
use crate::postgresql::{
    RESERVED_DATABASES,
    connection::{Admin, Session, Shown, addressable, translate},
    sql::{identifier, literal},
};

/// The names of owner roles begin so.
const OWNER_PREFIX: &str = "trove_owner_";

/// The role that the server was initialised with has this number; what it owns is not the tenant's. A database belongs
/// to it from the first moment of its creation to the last. What a drop that broke off has left is no database any more.
pub(super) const TENANTS: &str =
    "d.datdba <> 10 AND d.datconnlimit <> -2 AND d.datname NOT IN ('postgres', 'template0', 'template1')";

/// Creates a database, or finishes one whose creation broke off. One that exists is left as it is, and is to have the
/// character set and the collation that are asked for.
pub(super) async fn create(session: &Session, database: &NewDatabase) -> Result<()> {
    let name = database.name.as_str();
    refuse_reserved(name)?;
    finish_drops(session).await?;
    let find = "SELECT oid, datdba = 10 FROM pg_database WHERE datname = $1::text";
    let mut found = session.client.query_opt(find, &[&name]).await.map_err(translate)?;
    if found.is_none() {
        let options = text::options(session, database).await?;
        // Nobody gets in before it has its owner.
        let sql = format!("CREATE DATABASE {} TEMPLATE template0 ALLOW_CONNECTIONS false{options}", identifier(name));
        match session.client.batch_execute(&sql).await {
            Err(error) if is_taken(&error) => text::check(session, database).await?,
            made => made.map_err(|error| text::refused(database, error))?,
        }
        found = session.client.query_opt(find, &[&name]).await.map_err(translate)?;
    } else {
        text::check(session, database).await?;
    }
    let Some(found) = found else { return Err(Error::conflict(format!("database {name:?} is being dropped"))) };
    let (oid, unfinished): (u32, bool) = (found.get(0), found.get(1));
    if !unfinished {
        return Ok(());
    }
    let (owner, quoted) = (ensure_owner_role(&session.client, oid, name).await?, identifier(name));
    session
        .run(&format!(
            "BEGIN; REVOKE ALL ON DATABASE {quoted} FROM PUBLIC; ALTER DATABASE {quoted} OWNER TO {owner}; \
             ALTER DATABASE {quoted} ALLOW_CONNECTIONS true; COMMIT",
            owner = identifier(&owner)
        ))
        .await
}

/// True where the name was given meanwhile: a call that was dropped had asked for it, or the tenant's root.
fn is_taken(error: &tokio_postgres::Error) -> bool {
    matches!(error.code(), Some(&SqlState::UNIQUE_VIOLATION | &SqlState::DUPLICATE_DATABASE))
}

/// Tenants' databases in order of name.
pub(super) async fn list(session: &Session, page: &PageRequest) -> Result<Page<Database>> {
    let (set, collation) = (text::CHARACTER_SET_OF, text::collation_of(session.major));
    let sql = format!(
        "SELECT d.datname::text, {set}, {collation} FROM pg_database d WHERE {TENANTS} \
         AND ($1::text IS NULL OR d.datname::text COLLATE \"C\" > $1) ORDER BY d.datname::text COLLATE \"C\" LIMIT $2"
    );
    let rows = session.client.query(&sql, &[&page.after, &fetch_limit(page)]).await.map_err(translate)?;
    let database = |row: &Row| {
        let [name, set, collation] = [0, 1, 2].map(|column| row.get::<_, Shown>(column).0);
        Database::new(name).text(set, collation)
    };
    let found = rows.iter().map(database).collect();
    Ok(Page::of(found, page.limit.clamp(1, 1000), |database: &Database| database.name.clone()))
}

/// Drops a database with its sessions, and the owner roles that are left without one.
pub(super) async fn remove(admin: &Admin, name: &str) -> Result<()> {
    refuse_reserved(name)?;
    let session = admin.changing().await?;
    let find = "SELECT datistemplate FROM pg_database WHERE datname = $1::text";
    if let Some(found) = session.client.query_opt(find, &[&name]).await.map_err(translate)? {
        let quoted = identifier(name);
        if found.get(0) {
            session.run(&format!("ALTER DATABASE {quoted} IS_TEMPLATE false")).await?;
        }
        drop_whole(&session, name).await?;
    }
    finish_drops(&session).await?;
    let orphans = format!(
        "SELECT r.rolname::text FROM pg_roles r WHERE r.rolname ~ '^{OWNER_PREFIX}[0-9]+$' AND NOT r.rolcanlogin \
         AND NOT EXISTS (SELECT FROM pg_database d WHERE d.datdba = r.oid OR '{OWNER_PREFIX}' || d.oid = r.rolname)"
    );
    for orphan in addressable(&session.client.query(&orphans, &[]).await.map_err(translate)?) {
        users::drop_role(admin, &session, &orphan).await?;
    }
    Ok(())
}

/// Drops what drops that broke off have left. Nobody can use it, and it keeps roles from being dropped.
pub(super) async fn finish_drops(session: &Session) -> Result<()> {
    let left = "SELECT datname::text FROM pg_database WHERE datconnlimit = -2";
    for found in addressable(&session.client.query(left, &[]).await.map_err(translate)?) {
        drop_whole(session, &found).await?;
    }
    Ok(())
}

/// Drops a database however long it takes: broken off it could only be dropped again.
async fn drop_whole(session: &Session, name: &str) -> Result<()> {
    session.run("SET statement_timeout = 0").await?;
    session.run(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", identifier(name))).await?;
    session.run("RESET statement_timeout").await
}

/// True where this role is the owner role of a database.
pub(super) async fn is_owner(client: &impl GenericClient, role: &str) -> Result<bool> {
    let sql = format!(
        "SELECT FROM pg_roles r WHERE r.rolname = $1::text AND starts_with(r.rolname, '{OWNER_PREFIX}') \
         AND EXISTS (SELECT FROM pg_database d WHERE d.datdba = r.oid OR '{OWNER_PREFIX}' || d.oid = r.rolname)"
    );
    Ok(client.query_opt(&sql, &[&role]).await.map_err(translate)?.is_some())
}

/// The owner role of a tenant's database; [`NotFound`](trove_core::error::Kind::NotFound) where there is no such one.
///
/// A database that was made beside the service, by the tenant's root, is given its owner role here. Who owned it
/// before goes on using it.
pub(super) async fn owner(client: &impl GenericClient, name: &str) -> Result<String> {
    let sql = format!(
        "SELECT d.oid, r.rolname::text, r.rolcanlogin FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba \
         WHERE d.datname = $1::text AND {TENANTS}"
    );
    let Some(found) = client.query_opt(&sql, &[&name]).await.map_err(translate)? else {
        return Err(Error::not_found(format!("there is no database {name:?}")));
    };
    let (oid, Shown(former), logs_in): (u32, _, bool) = (found.get(0), found.get(1), found.get(2));
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

async fn ensure_owner_role(client: &impl GenericClient, oid: u32, database: &str) -> Result<String> {
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

fn refuse_reserved(name: &str) -> Result<()> {
    match RESERVED_DATABASES.contains(&name) {
        true => Err(Error::invalid(format!("the database name {name:?} is reserved"))),
        false => Ok(()),
    }
}
