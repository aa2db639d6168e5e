use tokio_postgres::{GenericClient, Row};
use trove_core::{
    error::{Error, Result},
    model::{NewUser, Page, PageRequest, User},
    secret::SecretString,
};

use super::{
    drops::finish_drops,
    fetch_limit,
    owners::{self, TENANT_DATABASES},
    roles::{TENANT_USERS, exists, terminate},
    root, verifier,
};
use crate::postgresql::{
    connection::{AdminConnector, AdminSession, LossyText, addressable, translate},
    sql::{identifier, literal},
};

/// The oid of the role that initialized the server.
const SUPERUSER: u32 = 10;

/// Creates users, all or none.
pub(super) async fn create(mut session: AdminSession, users: &[NewUser]) -> Result<()> {
    let change = session.client.transaction().await.map_err(translate)?;
    for user in users {
        if exists(&change, &user.user.name).await? {
            return Err(Error::conflict(format!("user {:?} already exists", user.user.name)));
        }
        write(&change, "CREATE", user).await?;
    }
    change.commit().await.map_err(translate)
}

/// Creates users, or sets the password and privileges of existing ones.
pub(super) async fn ensure(mut session: AdminSession, users: &[NewUser]) -> Result<()> {
    let change = session.client.transaction().await.map_err(translate)?;
    for user in users {
        let verb = if exists(&change, &user.user.name).await? { "ALTER" } else { "CREATE" };
        write(&change, verb, user).await?;
    }
    change.commit().await.map_err(translate)
}

/// Lists users in order of name.
pub(super) async fn list(session: &AdminSession, page: &PageRequest) -> Result<Page<User>> {
    let sql = format!(
        "{} AND ($1::text IS NULL OR r.rolname::text COLLATE \"C\" > $1) \
         ORDER BY r.rolname::text COLLATE \"C\" LIMIT $2",
        select()
    );
    let rows = session.client.query(&sql, &[&page.after, &fetch_limit(page)]).await.map_err(translate)?;
    let found = rows.iter().map(from_row).collect();
    Ok(Page::of(found, page.limit.clamp(1, 1000), |user: &User| user.user.to_string()))
}

/// Returns one user.
pub(super) async fn find(session: &AdminSession, name: &str) -> Result<User> {
    let sql = format!("{} AND r.rolname = $1::text", select());
    let found = session.client.query_opt(&sql, &[&name]).await.map_err(translate)?;
    found.as_ref().map(from_row).ok_or_else(|| missing(name))
}

/// Renames a user. Its sessions continue, and its password, privileges and settings are kept: they
/// belong to its oid. Only an MD5 hash would be lost, which cannot be used to log in here anyway.
pub(super) async fn rename(session: &AdminSession, name: &str, to: &str) -> Result<()> {
    require(&session.client, name).await?;
    if owners::is_owner(&session.client, name).await? {
        return Err(Error::conflict(format!("{name:?} is the owner role of a database")));
    }
    if name == to {
        return Ok(());
    }
    if exists(&session.client, to).await? {
        return Err(Error::conflict(format!("the name {to:?} is taken")));
    }
    session.run(&format!("ALTER ROLE {} RENAME TO {}", identifier(name), identifier(to))).await
}

/// Changes a password.
pub(super) async fn set_password(session: &AdminSession, name: &str, password: &SecretString) -> Result<()> {
    require(&session.client, name).await?;
    let verifier = verifier(password).await?;
    session.run(&format!("ALTER ROLE {} PASSWORD {}", identifier(name), literal(&verifier))).await?;
    restore_access(&session.client, name).await
}

/// Grants a user access to databases, all or none.
pub(super) async fn grant(mut session: AdminSession, name: &str, databases: &[String]) -> Result<()> {
    let change = session.client.transaction().await.map_err(translate)?;
    require(&change, name).await?;
    for database in databases {
        grant_access(&change, name, database).await?;
    }
    change.commit().await.map_err(translate)
}

/// Revokes a user's access to a database and ends its sessions there.
pub(super) async fn revoke(mut session: AdminSession, name: &str, database: &str) -> Result<()> {
    let keeps_grantors = session.major.keeps_grantors();
    let change = session.client.transaction().await.map_err(translate)?;
    require(&change, name).await?;
    let sql = format!("SELECT FROM pg_database d WHERE d.datname = $1::text AND {TENANT_DATABASES}");
    if change.query_opt(&sql, &[&database]).await.map_err(translate)?.is_none() {
        return Ok(());
    }
    let owner = owners::owner(&change, database).await?;
    replace_public_access(&change, name, database).await?;
    let (user, quoted) = (identifier(name), identifier(database));
    if keeps_grantors {
        let grantors = "SELECT m.grantor::regrole::text FROM pg_auth_members m \
                        WHERE m.roleid = $1::text::regrole AND m.member = $2::text::regrole";
        // The server has quoted these names.
        for grantor in addressable(&change.query(grantors, &[&identifier(&owner), &user]).await.map_err(translate)?) {
            let sql = format!("REVOKE {} FROM {user} GRANTED BY {grantor} CASCADE", identifier(&owner));
            change.batch_execute(&sql).await.map_err(translate)?;
        }
    } else {
        let sql = format!("REVOKE {} FROM {user} CASCADE", identifier(&owner));
        change.batch_execute(&sql).await.map_err(translate)?;
    }
    let sql = format!(
        "REVOKE ALL ON DATABASE {quoted} FROM {user} CASCADE; ALTER ROLE {user} IN DATABASE {quoted} RESET role"
    );
    change.batch_execute(&sql).await.map_err(translate)?;
    let sql = "SELECT has_database_privilege($1::text, $2::text, 'CONNECT')";
    if change.query_one(sql, &[&name, &database]).await.map_err(translate)?.get(0) {
        let why = format!(
            "user {name:?} has access to database {database:?} through another role or user, who must revoke it"
        );
        return Err(Error::conflict(why));
    }
    change.commit().await.map_err(translate)?;
    terminate(&session, name, Some(database)).await
}

/// Drops a user and ends its sessions; the owners of the databases get what it owned.
pub(super) async fn remove(admin: &AdminConnector, name: &str) -> Result<()> {
    let session = admin.change_session().await?;
    if !exists(&session.client, name).await? {
        return Ok(());
    }
    require(&session.client, name).await?;
    if owners::is_owner(&session.client, name).await? {
        return Err(Error::conflict(format!("{name:?} is the owner role of a database")));
    }
    session.run(&format!("ALTER ROLE {} CONNECTION LIMIT 0", identifier(name))).await?;
    terminate(&session, name, None).await?;
    drop_role(admin, &session, name).await
}

/// Drops a role after reassigning what it owns and revoking its privileges, in each database.
pub(super) async fn drop_role(admin: &AdminConnector, session: &AdminSession, name: &str) -> Result<()> {
    let role = identifier(name);
    finish_drops(session).await?;
    let owned =
        format!("SELECT d.datname::text FROM pg_database d WHERE d.datdba = $1::text::regrole AND {TENANT_DATABASES}");
    for database in addressable(&session.client.query(&owned, &[&role]).await.map_err(translate)?) {
        owners::owner(&session.client, &database).await?;
    }
    let concerned = "SELECT DISTINCT d.datname::text, d.datdba, s.refobjid, d.datallowconn FROM pg_shdepend s \
                     JOIN pg_database d ON d.oid = s.dbid \
                     WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = $1::text::regrole";
    for found in session.client.query(concerned, &[&role]).await.map_err(translate)? {
        let (LossyText(database), owner, own): (_, u32, u32) = (found.get(0), found.get(1), found.get(2));
        // Dropping what a role owns after reassigning it to itself would drop everything in the
        // database.
        if owner == own {
            return Err(Error::conflict(format!("{name:?} owns database {database:?}")));
        }
        // What a role has in the server's own databases, such as large objects, must not become the superuser's.
        let reassign = if owner == SUPERUSER { drop_owned(own) } else { reassign(own, owner) };
        let quoted = identifier(&database);
        if found.get(3) {
            admin.session(&database).await?.run(&reassign).await?;
            continue;
        }
        // Its owner has forbidden connections.
        session.run(&format!("ALTER DATABASE {quoted} ALLOW_CONNECTIONS true")).await?;
        let reassigned = async { admin.session(&database).await?.run(&reassign).await }.await;
        session.run(&format!("ALTER DATABASE {quoted} ALLOW_CONNECTIONS false")).await?;
        reassigned?;
    }
    session.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await
}

/// Returns the statement that drops what a role owns in a database, and its privileges there.
fn drop_owned(of: u32) -> String {
    format!("DO $$ BEGIN EXECUTE format('DROP OWNED BY %I', pg_get_userbyid({of})); END $$")
}

/// Returns the statement that reassigns what one role owns in a database to another. Role names are
/// stored in the character set of the database they were created from, so oids are used.
fn reassign(from: u32, to: u32) -> String {
    format!(
        "DO $$ DECLARE f name := pg_get_userbyid({from}); t name := pg_get_userbyid({to}); BEGIN \
         EXECUTE format('REASSIGN OWNED BY %I TO %I', f, t); EXECUTE format('DROP OWNED BY %I', f); END $$"
    )
}

async fn write(change: &impl GenericClient, verb: &str, user: &NewUser) -> Result<()> {
    let (name, password) = (identifier(&user.user.name), literal(&verifier(&user.password).await?));
    let sql = format!("{verb} ROLE {name} LOGIN PASSWORD {password}");
    change.batch_execute(&sql).await.map_err(translate)?;
    restore_access(change, &user.user.name).await?;
    root::include(change, &user.user.name).await?;
    for database in &user.databases {
        grant_access(change, &user.user.name, database).await?;
    }
    Ok(())
}

/// Restores access for a user whose drop was interrupted.
async fn restore_access(client: &impl GenericClient, name: &str) -> Result<()> {
    let shut_out = "SELECT FROM pg_roles WHERE rolname = $1::text AND rolconnlimit = 0";
    if client.query_opt(shut_out, &[&name]).await.map_err(translate)?.is_some() {
        let sql = format!("ALTER ROLE {} CONNECTION LIMIT -1", identifier(name));
        client.batch_execute(&sql).await.map_err(translate)?;
    }
    Ok(())
}

async fn grant_access(change: &impl GenericClient, user: &str, database: &str) -> Result<()> {
    let owner = owners::owner(change, database).await?;
    let sql = format!(
        "GRANT {role} TO {user}; ALTER ROLE {user} IN DATABASE {database} SET role = {value}",
        role = identifier(&owner),
        user = identifier(user),
        database = identifier(database),
        value = literal(&owner),
    );
    change.batch_execute(&sql).await.map_err(translate)
}

/// Replaces access for everybody by access for all current users but one.
async fn replace_public_access(change: &impl GenericClient, but: &str, database: &str) -> Result<()> {
    let open = "SELECT FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a \
                WHERE d.datname = $1::text AND a.grantee = 0 AND a.privilege_type = 'CONNECT'";
    if change.query(open, &[&database]).await.map_err(translate)?.is_empty() {
        return Ok(());
    }
    let sql = format!("SELECT r.rolname::text FROM pg_roles r WHERE {TENANT_USERS} AND r.rolname <> $1::text");
    let others = change.query(&sql, &[&but]).await.map_err(translate)?;
    let database = identifier(database);
    for other in addressable(&others) {
        let sql = format!("GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {}", identifier(&other));
        change.batch_execute(&sql).await.map_err(translate)?;
    }
    change.batch_execute(&format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC")).await.map_err(translate)
}

fn select() -> String {
    format!(
        "SELECT r.rolname::text, ARRAY(SELECT d.datname::text FROM pg_database d WHERE {TENANT_DATABASES} \
         AND has_database_privilege(r.oid, d.oid, 'CONNECT') ORDER BY d.datname::text COLLATE \"C\") \
         FROM pg_roles r WHERE {TENANT_USERS}"
    )
}

fn from_row(row: &Row) -> User {
    let databases: Vec<LossyText> = row.get(1);
    User::new(row.get::<_, LossyText>(0).0, databases.into_iter().map(|database| database.0).collect())
}

/// Returns [`NotFound`](trove_core::error::Kind::NotFound) unless the tenant has a user of this
/// name.
async fn require(client: &impl GenericClient, name: &str) -> Result<()> {
    let sql = format!("SELECT FROM pg_roles r WHERE {TENANT_USERS} AND r.rolname = $1::text");
    match client.query_opt(&sql, &[&name]).await.map_err(translate)? {
        Some(_) => Ok(()),
        None => Err(missing(name)),
    }
}

fn missing(name: &str) -> Error {
    Error::not_found(format!("there is no user {name:?}"))
}
