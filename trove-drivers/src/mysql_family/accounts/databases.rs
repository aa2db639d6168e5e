use trove_core::{
    error::{Error, Kind, Result},
    model::{Database, NewDatabase, Page, PageRequest},
};

use super::{definers, privileges, sessions::end_sessions};
use crate::mysql_family::{
    AdminSession, Dialect, OWN_DATABASES, check_directory, check_letters, identifier, literal, rules,
};

/// Creates the databases that do not exist yet.
pub(super) async fn create<D: Dialect>(session: &mut AdminSession, databases: &[NewDatabase]) -> Result<()> {
    let mut missing = Vec::new();
    for database in databases {
        allow::<D>(database)?;
        match find(session, &database.name).await? {
            Some(found) => fits(database, &found)?,
            None => missing.push(database),
        }
    }
    for database in missing {
        let mut sql = format!("CREATE DATABASE {}", identifier(&database.name));
        for (clause, value) in [(" CHARACTER SET ", &database.character_set), (" COLLATE ", &database.collation)] {
            if let Some(value) = value {
                sql.push_str(clause);
                sql.push_str(&literal(value));
            }
        }
        match session.run(&sql).await {
            // A dropped call had requested it, and it was created only now.
            Err(error) if error.kind() == Kind::Conflict => match find(session, &database.name).await? {
                Some(found) => fits(database, &found)?,
                None => return Err(error),
            },
            made => made?,
        }
    }
    Ok(())
}

/// Lists the tenant's databases in order of name.
pub(super) async fn list(session: &mut AdminSession, page: &PageRequest) -> Result<Page<Database>> {
    let after = page.after.as_ref().map(|after| format!("AND {} > {}", bytes("SCHEMA_NAME"), bytes(&literal(after))));
    let limit = page.limit.clamp(1, 1000);
    let sql = format!(
        "{SELECT} WHERE {} {} ORDER BY {} LIMIT {}",
        is_tenants(),
        after.unwrap_or_default(),
        bytes("SCHEMA_NAME"),
        limit + 1
    );
    let found = session.rows(&sql).await?.into_iter().filter_map(from_row).collect();
    Ok(Page::of(found, limit, |database: &Database| database.name.clone()))
}

/// Drops a database, its sessions, and the privileges on it.
pub(super) async fn remove<D: Dialect>(session: &mut AdminSession, name: &str) -> Result<()> {
    if is_reserved(name) {
        return Err(Error::invalid(format!("the database name {name:?} is reserved")));
    }
    if check_letters(name).is_err() {
        return Ok(());
    }
    if find(session, name).await?.is_some() {
        end_sessions(session, |found| found.database.as_deref() == Some(name)).await?;
        session.run(&format!("DROP DATABASE IF EXISTS {}", identifier(name))).await?;
    }
    // Otherwise the grantees could use the next database of this name.
    privileges::revoke_from_everyone::<D>(session, name).await?;
    definers::sweep::<D>(session).await
}

/// Returns the names of all of the tenant's databases.
pub(super) async fn names(session: &mut AdminSession) -> Result<Vec<String>> {
    let rows = session.rows(&format!("{SELECT} WHERE {}", is_tenants())).await?;
    Ok(rows.into_iter().filter_map(from_row).map(|database| database.name).collect())
}

/// Returns [`NotFound`](trove_core::error::Kind::NotFound) unless all of these are the tenant's
/// databases.
pub(super) async fn require(session: &mut AdminSession, databases: &[String]) -> Result<()> {
    for name in databases {
        if is_reserved(name) || find(session, name).await?.is_none() {
            return Err(Error::not_found(format!("there is no database {name:?}")));
        }
    }
    Ok(())
}

const SELECT: &str = "SELECT SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME \
                      FROM information_schema.SCHEMATA";

async fn find(session: &mut AdminSession, name: &str) -> Result<Option<Database>> {
    if check_letters(name).is_err() {
        return Ok(None);
    }
    let sql = format!("{SELECT} WHERE SCHEMA_NAME = {}", literal(name));
    // The server may find a name that differs only in case.
    let mut found = session.rows(&sql).await?.into_iter().filter_map(from_row);
    Ok(found.find(|database| database.name == name))
}

fn from_row(row: Vec<Option<String>>) -> Option<Database> {
    let [name, character_set, collation] = row.try_into().ok()?;
    Some(Database::new(name?).text(character_set?, collation?))
}

fn allow<D: Dialect>(database: &NewDatabase) -> Result<()> {
    rules(0).check_database(&database.name)?;
    check_letters(&database.name)?;
    check_directory(&database.name)?;
    D::check_database(&database.name)
}

/// Returns [`Conflict`](trove_core::error::Kind::Conflict) unless an existing database matches the
/// request.
fn fits(asked: &NewDatabase, found: &Database) -> Result<()> {
    // An old name of the same character set.
    let plain = |name: &str| name.to_ascii_lowercase().replace("utf8_", "utf8mb3_");
    let same = |asked: &Option<String>, found: &Option<String>| match (asked, found) {
        (Some(asked), Some(found)) => plain(&format!("{asked}_")) == plain(&format!("{found}_")),
        _ => true,
    };
    if same(&asked.character_set, &found.character_set) && same(&asked.collation, &found.collation) {
        return Ok(());
    }
    let (name, text) = (&found.name, [&found.character_set, &found.collation].map(|it| it.clone().unwrap_or_default()));
    Err(Error::conflict(format!("database {name:?} exists with character set and collation {}", text.join(", "))))
}

/// Returns true for the server's own databases. Others with a reserved name were created by the tenant's root.
fn is_reserved(name: &str) -> bool {
    OWN_DATABASES.iter().any(|own| own.eq_ignore_ascii_case(name))
}

fn is_tenants() -> String {
    let own = OWN_DATABASES.map(literal).join(", ");
    // Some servers list directories that are not databases this way.
    format!("SCHEMA_NAME NOT IN ({own}) AND LEFT(SCHEMA_NAME, 9) <> '#mysql50#'")
}

fn bytes(expression: &str) -> String {
    format!("CAST({expression} AS BINARY)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn existing_databases_are_compared_with_the_request() {
        let found = Database::new("a").text("utf8mb3", "utf8mb3_general_ci");
        fits(&NewDatabase::new("a"), &found).unwrap();
        fits(&NewDatabase::new("a").character_set("UTF8").collation("utf8_general_ci"), &found).unwrap();
        assert!(fits(&NewDatabase::new("a").character_set("utf8mb4"), &found).is_err());
        assert!(fits(&NewDatabase::new("a").collation("utf8mb3_bin"), &found).is_err());
    }
}
