use tokio_postgres::{Row, error::SqlState};
use trove_core::{
    error::{Error, Result},
    model::{Database, NewDatabase, Page, PageRequest},
};

use super::{
    drops::{drop_database, finish_drops},
    fetch_limit,
    owners::{OWNER_PREFIX, TENANT_DATABASES, ensure_owner_role},
    text, users,
};
use crate::postgresql::{
    RESERVED_DATABASES,
    connection::{AdminConnector, AdminSession, LossyText, addressable, translate},
    sql::identifier,
};

/// Creates a database, or completes an interrupted creation. An existing one is kept if it has the
/// requested character set and collation.
pub(super) async fn create(session: &AdminSession, database: &NewDatabase) -> Result<()> {
    let name = database.name.as_str();
    refuse_reserved(name)?;
    finish_drops(session).await?;
    let find = "SELECT oid, datdba = 10 FROM pg_database WHERE datname = $1::text";
    let mut found = session.client.query_opt(find, &[&name]).await.map_err(translate)?;
    if found.is_none() {
        let options = text::options(session, database).await?;
        // Nobody may connect before the database has its owner.
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

/// Returns true if the name was taken in the meantime, by a dropped call or by the tenant's root.
fn is_taken(error: &tokio_postgres::Error) -> bool {
    matches!(error.code(), Some(&SqlState::UNIQUE_VIOLATION | &SqlState::DUPLICATE_DATABASE))
}

/// Lists the tenant's databases in order of name.
pub(super) async fn list(session: &AdminSession, page: &PageRequest) -> Result<Page<Database>> {
    let (set, collation) = (text::CHARACTER_SET_OF, text::collation_of(session.major));
    let sql = format!(
        "SELECT d.datname::text, {set}, {collation} FROM pg_database d WHERE {TENANT_DATABASES} \
         AND ($1::text IS NULL OR d.datname::text COLLATE \"C\" > $1) ORDER BY d.datname::text COLLATE \"C\" LIMIT $2"
    );
    let rows = session.client.query(&sql, &[&page.after, &fetch_limit(page)]).await.map_err(translate)?;
    let database = |row: &Row| {
        let [name, set, collation] = [0, 1, 2].map(|column| row.get::<_, LossyText>(column).0);
        Database::new(name).text(set, collation)
    };
    let found = rows.iter().map(database).collect();
    Ok(Page::of(found, page.limit.clamp(1, 1000), |database: &Database| database.name.clone()))
}

/// Drops a database with its sessions, and owner roles without a database.
pub(super) async fn remove(admin: &AdminConnector, name: &str) -> Result<()> {
    refuse_reserved(name)?;
    let session = admin.change_session().await?;
    let find = "SELECT datistemplate FROM pg_database WHERE datname = $1::text";
    if let Some(found) = session.client.query_opt(find, &[&name]).await.map_err(translate)? {
        let quoted = identifier(name);
        if found.get(0) {
            session.run(&format!("ALTER DATABASE {quoted} IS_TEMPLATE false")).await?;
        }
        drop_database(&session, name).await?;
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

fn refuse_reserved(name: &str) -> Result<()> {
    match RESERVED_DATABASES.contains(&name) {
        true => Err(Error::invalid(format!("the database name {name:?} is reserved"))),
        false => Ok(()),
    }
}
