//! The character set and the collation of a database, by the names that the server uses.

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

/// The defaults of a new database.
const CHARACTER_SET: &str = "UTF8";
const COLLATION: &str = "C.UTF-8";

/// The one collation that is compatible with every character set.
const PLAIN: &str = "C";

/// The highest number of a server encoding; higher ones are for clients only.
const LAST_STORED: i32 = 34;

/// Longer than the name of any locale.
const MAX_NAME_BYTES: usize = 64;

/// Returns the options of `CREATE DATABASE`; empty for the defaults of the template.
///
/// # Errors
///
/// [`Invalid`](trove_core::error::Kind::Invalid) for what the server does not support.
pub(super) async fn options(session: &AdminSession, database: &NewDatabase) -> Result<String> {
    if database.character_set.is_none() && database.collation.is_none() {
        return Ok(String::new());
    }
    let set = character_set(session, database.character_set.as_deref().unwrap_or(CHARACTER_SET)).await?;
    let default = if set == CHARACTER_SET { COLLATION } else { PLAIN };
    let collation = database.collation.as_deref().unwrap_or(default);
    Ok(format!(" ENCODING {} {}", literal(&set), locale(session, collation, &set).await?))
}

/// Returns [`Conflict`](trove_core::error::Kind::Conflict) if an existing database differs from the
/// request.
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
        return Err(Error::conflict(format!("database {:?} already exists with character set {set}", database.name)));
    }
    match &database.collation {
        Some(asked) if folded(asked) != folded(&collation) => {
            let name = &database.name;
            Err(Error::conflict(format!("database {name:?} already exists with collation {collation}")))
        }
        _ => Ok(()),
    }
}

/// The SQL for the character set of `pg_database d`.
pub(super) const CHARACTER_SET_OF: &str = "pg_encoding_to_char(d.encoding)::text";

/// Returns the SQL for the collation of `pg_database d`, by the name that [`options`] takes.
pub(super) fn collation_of(major: MajorVersion) -> String {
    let (locale, known) = columns(major);
    let icu = format!(
        "coalesce((SELECT min(c.collname::text) FROM pg_collation c WHERE c.collprovider = 'i' \
         AND c.collnamespace = 'pg_catalog'::regnamespace AND c.collisdeterministic AND c.{known} = d.{locale}), \
         d.{locale})"
    );
    format!("CASE d.datlocprovider WHEN 'c' THEN d.datcollate::text WHEN 'i' THEN {icu} ELSE d.{locale} END")
}

/// Converts an error of `CREATE DATABASE`, which may be about the character set or the collation.
pub(super) fn refused(database: &NewDatabase, error: tokio_postgres::Error) -> Error {
    let (set, collation) = (database.character_set.as_deref(), database.collation.as_deref());
    let found = match error.code() {
        Some(&SqlState::WRONG_OBJECT_TYPE) => {
            Error::invalid(format!("the server does not support collation {:?}", collation.unwrap_or_default()))
        }
        Some(&(SqlState::INVALID_PARAMETER_VALUE | SqlState::INVALID_OBJECT_DEFINITION)) => {
            let set = set.unwrap_or(CHARACTER_SET);
            Error::invalid(format!(
                "character set {set:?} is not compatible with collation {:?}",
                collation.unwrap_or_default()
            ))
        }
        _ => return translate(error),
    };
    found.with_source(error)
}

/// Returns the server's own name of a character set.
async fn character_set(session: &AdminSession, name: &str) -> Result<String> {
    let sql =
        "SELECT pg_char_to_encoding($1::text::name), pg_encoding_to_char(pg_char_to_encoding($1::text::name))::text";
    let row = session.client.query_one(sql, &[&name]).await.map_err(translate)?;
    match row.get::<_, i32>(0) {
        0..=LAST_STORED if name.len() < MAX_NAME_BYTES => Ok(row.get(1)),
        _ => Err(Error::invalid(format!("the server has no character set {name:?}; it has UTF8, LATIN1, and others"))),
    }
}

/// Returns the options for a collation, by its provider: built in, ICU or libc.
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
    // libc looks for its locales in files, by name.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.@-".contains(&byte);
    let fits = name.len() < MAX_NAME_BYTES && name.starts_with(|first: char| first.is_ascii_alphabetic());
    if fits && name.bytes().all(plain) && !name.contains("..") && !name.ends_with("-x-icu") {
        return Ok(system(name));
    }
    Err(Error::invalid(format!(
        "the server does not support collation {name:?}; it has C, {COLLATION} and those that pg_collation lists"
    )))
}

fn system(name: &str) -> String {
    format!("LOCALE_PROVIDER libc LOCALE {}", literal(name))
}

/// Returns the columns of `pg_database` and `pg_collation` with locales of providers other than
/// libc.
fn columns(major: MajorVersion) -> (&'static str, &'static str) {
    if major.has_builtin_locales() { ("datlocale", "colllocale") } else { ("daticulocale", "colliculocale") }
}

/// Normalizes the spellings of a libc locale: `en_US.UTF-8`, `en_US.utf8`.
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
    fn spellings_of_libc_locales_are_equal() {
        assert_eq!(folded("en_US.UTF-8"), folded("en_US.utf8"));
        assert_eq!(folded("C.utf8"), folded("C.UTF-8"));
        assert_eq!(folded("POSIX"), "C");
        assert_ne!(folded("C"), folded("C.UTF-8"));
        assert_ne!(folded("en-US-x-icu"), folded("en-us-x-icu"));
    }
}
