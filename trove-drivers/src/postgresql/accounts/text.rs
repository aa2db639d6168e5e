//! How the text of a database is encoded and ordered: its character set and its collation, by the names that the server
//! and its lists have for them.

use tokio_postgres::error::SqlState;
use trove_core::{
    error::{Error, Result},
    model::NewDatabase,
};

use crate::postgresql::{
    connection::{AdminSession, LossyText, translate},
    sql::literal,
    version::MajorVersion,
};

/// What a database has that is asked for nothing.
const CHARACTER_SET: &str = "UTF8";
const COLLATION: &str = "C.UTF-8";

/// The one collation that goes with every character set.
const PLAIN: &str = "C";

/// The greatest number of a character set that the server can store; those above are for clients.
const LAST_STORED: i32 = 34;

/// More than the name of any locale.
const MAX_NAME_BYTES: usize = 64;

/// The options of `CREATE DATABASE` for a new database; empty where it is to be as the server's template is.
///
/// # Errors
///
/// [`Invalid`](trove_core::error::Kind::Invalid) for what the server does not know.
pub(super) async fn options(session: &AdminSession, database: &NewDatabase) -> Result<String> {
    if database.character_set.is_none() && database.collation.is_none() {
        return Ok(String::new());
    }
    let set = character_set(session, database.character_set.as_deref().unwrap_or(CHARACTER_SET)).await?;
    let default = if set == CHARACTER_SET { COLLATION } else { PLAIN };
    let collation = database.collation.as_deref().unwrap_or(default);
    Ok(format!(" ENCODING {} {}", literal(&set), locale(session, collation, &set).await?))
}

/// [`Conflict`](trove_core::error::Kind::Conflict) where a database that exists has not what is asked for.
pub(super) async fn check(session: &AdminSession, database: &NewDatabase) -> Result<()> {
    let sql = format!(
        "SELECT {}, {} FROM pg_database d WHERE d.datname = $1::text",
        CHARACTER_SET_OF,
        collation_of(session.major)
    );
    let Some(row) = session.client.query_opt(&sql, &[&database.name]).await.map_err(translate)? else { return Ok(()) };
    let [set, collation] = [0, 1].map(|column| row.get::<_, LossyText>(column).0);
    if let Some(asked) = &database.character_set
        && character_set(session, asked).await? != set
    {
        return Err(Error::conflict(format!(
            "there is a database {:?} already, in character set {set}",
            database.name
        )));
    }
    match &database.collation {
        Some(asked) if folded(asked) != folded(&collation) => {
            let name = &database.name;
            Err(Error::conflict(format!("there is a database {name:?} already, with collation {collation}")))
        }
        _ => Ok(()),
    }
}

/// The character set of `pg_database d`, as SQL.
pub(super) const CHARACTER_SET_OF: &str = "pg_encoding_to_char(d.encoding)::text";

/// The collation of `pg_database d`, as SQL: by the name that [`options`] takes.
pub(super) fn collation_of(major: MajorVersion) -> String {
    let (locale, known) = columns(major);
    let icu = format!(
        "coalesce((SELECT min(c.collname::text) FROM pg_collation c WHERE c.collprovider = 'i' \
         AND c.collnamespace = 'pg_catalog'::regnamespace AND c.collisdeterministic AND c.{known} = d.{locale}), \
         d.{locale})"
    );
    format!("CASE d.datlocprovider WHEN 'c' THEN d.datcollate::text WHEN 'i' THEN {icu} ELSE d.{locale} END")
}

/// What went wrong with `CREATE DATABASE`, where it is the character set or the collation.
pub(super) fn refused(database: &NewDatabase, error: tokio_postgres::Error) -> Error {
    let (set, collation) = (database.character_set.as_deref(), database.collation.as_deref());
    let found = match error.code() {
        Some(&SqlState::WRONG_OBJECT_TYPE) => {
            Error::invalid(format!("the server does not know collation {:?}", collation.unwrap_or_default()))
        }
        Some(&(SqlState::INVALID_PARAMETER_VALUE | SqlState::INVALID_OBJECT_DEFINITION)) => {
            let set = set.unwrap_or(CHARACTER_SET);
            Error::invalid(format!(
                "character set {set:?} does not go with collation {:?}",
                collation.unwrap_or_default()
            ))
        }
        _ => return translate(error),
    };
    found.because(error)
}

/// The server's own name of a character set.
async fn character_set(session: &AdminSession, name: &str) -> Result<String> {
    let sql =
        "SELECT pg_char_to_encoding($1::text::name), pg_encoding_to_char(pg_char_to_encoding($1::text::name))::text";
    let row = session.client.query_one(sql, &[&name]).await.map_err(translate)?;
    match row.get::<_, i32>(0) {
        0..=LAST_STORED if name.len() < MAX_NAME_BYTES => Ok(row.get(1)),
        _ => Err(Error::invalid(format!("the server has no character set {name:?}; it has UTF8, LATIN1, and others"))),
    }
}

/// The options for a collation, by the way the server offers it: by itself, by ICU or by the system.
async fn locale(session: &AdminSession, name: &str, set: &str) -> Result<String> {
    let same = |own: &&str| folded(own) == folded(name);
    if let Some(builtin) = session.major.builtin_locales().iter().copied().find(same) {
        return Ok(format!(
            "LOCALE_PROVIDER builtin BUILTIN_LOCALE {} LOCALE {}",
            literal(builtin),
            literal(COLLATION)
        ));
    }
    if let Some(system_has) = [PLAIN, COLLATION].into_iter().find(same) {
        return Ok(system(system_has));
    }
    let (_, known) = columns(session.major);
    let sql = format!(
        "SELECT c.{known} FROM pg_collation c WHERE c.collprovider = 'i' AND c.collname = $1::text \
         AND c.collnamespace = 'pg_catalog'::regnamespace"
    );
    if let Some(row) = session.client.query_opt(&sql, &[&name]).await.map_err(translate)? {
        let (icu, system) = (row.get::<_, LossyText>(0).0, if set == CHARACTER_SET { COLLATION } else { PLAIN });
        return Ok(format!("LOCALE_PROVIDER icu ICU_LOCALE {} LOCALE {}", literal(&icu), literal(system)));
    }
    // The system looks for its locales in files.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.@-".contains(&byte);
    let fits = name.len() < MAX_NAME_BYTES && name.starts_with(|first: char| first.is_ascii_alphabetic());
    if fits && name.bytes().all(plain) && !name.contains("..") && !name.ends_with("-x-icu") {
        return Ok(system(name));
    }
    Err(Error::invalid(format!(
        "the server does not know collation {name:?}; it has C, {COLLATION} and those that pg_collation lists"
    )))
}

fn system(name: &str) -> String {
    format!("LOCALE_PROVIDER libc LOCALE {}", literal(name))
}

/// The columns of `pg_database` and of `pg_collation` that hold locales which are not the system's.
fn columns(major: MajorVersion) -> (&'static str, &'static str) {
    if major.has_builtin_locales() { ("datlocale", "colllocale") } else { ("daticulocale", "colliculocale") }
}

/// A collation's name without the ways in which one of the system's may be written: `en_US.UTF-8`, `en_US.utf8`.
fn folded(name: &str) -> String {
    match name.split_once('.') {
        _ if name == "POSIX" => PLAIN.to_owned(),
        Some((language, set)) => format!("{language}.{}", set.to_ascii_lowercase().replace('-', "")),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_systems_locales_are_the_same_in_every_way_of_writing() {
        assert_eq!(folded("en_US.UTF-8"), folded("en_US.utf8"));
        assert_eq!(folded("C.utf8"), folded("C.UTF-8"));
        assert_eq!(folded("POSIX"), "C");
        assert_ne!(folded("C"), folded("C.UTF-8"));
        assert_ne!(folded("en-US-x-icu"), folded("en-us-x-icu"));
    }
}
