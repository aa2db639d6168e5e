//! Changes parameters of a running server, one by one.

use trove_core::{
    error::{Error, Result},
    model::Setting,
};

use super::{AdminConnector, AdminSession, Dialect, identifier, literal, server_error::ServerError};
use crate::container::ConfigFile;

/// Error codes for a parameter that is not dynamic, and for a value of the wrong type.
const READ_ONLY: u16 = 1238;
const WRONG_TYPE: u16 = 1232;

/// Applies these values at once, and returns the names of those that take effect only after a
/// restart: what the server reports as such, and `start_only`. A removed setting gets its value
/// from the default files or else the server's own default.
pub(crate) async fn set<D: Dialect>(
    admin: &AdminConnector<D>,
    unset: &[ConfigFile],
    start_only: &[&str],
    changes: &[(String, Option<Setting>)],
) -> Result<Vec<String>> {
    let mut session = admin.session().await?;
    let (mut later, mut again) = (Vec::new(), Vec::new());
    for (name, setting) in changes {
        if start_only.contains(&name.as_str()) {
            later.push(name.clone());
            continue;
        }
        let values = match (setting, rendered(unset, name)) {
            (Some(setting), _) => values(&setting.to_string()),
            (None, Some(value)) => values(&in_full(&value)),
            (None, None) => vec!["DEFAULT".to_owned()],
        };
        match assign(&mut session, name, &values).await {
            Ok(AssignOutcome::Applied) => {}
            Ok(AssignOutcome::NeedsRestart) => later.push(name.clone()),
            Ok(AssignOutcome::Adjusted) => again.push((name, setting, values, None)),
            Err(error) if error.is_rejection() => again.push((name, setting, values, Some(error))),
            Err(error) => return Err(error.into()),
        }
    }
    // A value that conflicts with another one's former value.
    for (name, setting, values, refused) in again {
        match (assign(&mut session, name, &values).await, refused) {
            (Err(error), Some(_)) if error.is_rejection() => return Err(refusal(name, setting.as_ref(), error)),
            (Err(error), _) if !error.is_rejection() => return Err(error.into()),
            _ => {}
        }
    }
    Ok(later)
}

enum AssignOutcome {
    Applied,
    /// The server warned that it used another value instead.
    Adjusted,
    NeedsRestart,
}

/// Sets a variable to the first of these values that has its type.
async fn assign(session: &mut AdminSession, name: &str, values: &[String]) -> Result<AssignOutcome, ServerError> {
    let mut wrong_type = None;
    for value in values {
        match session.query(&format!("SET GLOBAL {} = {value}", identifier(name))).await {
            Err(ServerError::Refused { code: READ_ONLY, .. }) => return Ok(AssignOutcome::NeedsRestart),
            Err(error @ ServerError::Refused { code: WRONG_TYPE, .. }) => wrong_type = Some(error),
            Err(error) => return Err(error),
            Ok(_) => {
                wrong_type = None;
                break;
            }
        }
    }
    if let Some(error) = wrong_type {
        return Err(error);
    }
    let adjusted =
        session.query("SHOW WARNINGS").await?.iter().any(|row| row.first() == Some(&Some("Warning".to_owned())));
    Ok(if adjusted { AssignOutcome::Adjusted } else { AssignOutcome::Applied })
}

/// Returns how a value can be written: as a number if it is one, and as a text.
fn values(value: &str) -> Vec<String> {
    let number = !value.is_empty() && value.parse::<f64>().is_ok_and(f64::is_finite);
    if number { vec![value.to_owned(), literal(value)] } else { vec![literal(value)] }
}

/// Returns the last value of a parameter in these files.
fn rendered(files: &[ConfigFile], name: &str) -> Option<String> {
    let files = files.iter().filter(|file| file.path.ends_with(".cnf"));
    let lines = files.flat_map(|file| file.content.lines()).filter_map(|line| line.split_once(" = "));
    let of = |found: &str| found == name || found.strip_prefix("loose_") == Some(name);
    lines.rev().find(|(found, _)| of(found)).map(|(_, value)| value.trim_matches('"').to_owned())
}

/// Converts a size from the syntax of files to that of statements.
fn in_full(value: &str) -> String {
    let unit = match value.as_bytes().last() {
        Some(b'K') => 1 << 10,
        Some(b'M') => 1 << 20,
        Some(b'G') => 1_u64 << 30,
        _ => return value.to_owned(),
    };
    match value[..value.len() - 1].parse::<u64>() {
        Ok(number) => number.saturating_mul(unit).to_string(),
        Err(_) => value.to_owned(),
    }
}

fn refusal(name: &str, setting: Option<&Setting>, error: ServerError) -> Error {
    let refused = match setting {
        Some(setting) => format!("the server rejected {:?} for parameter {name}", setting.to_string()),
        None => format!("the server rejected the default of parameter {name}"),
    };
    Error::invalid(refused).with_source(Error::from(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_numbers_or_quoted() {
        assert_eq!(values("12"), ["12", "'12'"]);
        assert_eq!(values("0.5"), ["0.5", "'0.5'"]);
        for text in ["", "ON", "inf", "nan", "1; DROP DATABASE x", "0x10"] {
            assert_eq!(values(text), [literal(text)], "{text:?}");
        }
        assert_eq!(values("it's \\"), [r"'it''s \\'"]);
    }

    #[test]
    fn unset_parameters_have_the_value_of_the_files() {
        let files = [
            ConfigFile::new("my.cnf", "[mysqld]\na = 1\nloose_b = \"ON\"\n!includedir x\n[mysqld]\n"),
            ConfigFile::new("conf.d/10-size.cnf", "[mysqld]\na = 64M\n"),
            ConfigFile::new("init.sql", "c = 1\n"),
        ];
        assert_eq!(rendered(&files, "a").as_deref(), Some("64M"));
        assert_eq!(rendered(&files, "b").as_deref(), Some("ON"));
        assert_eq!(rendered(&files, "c"), None);
        assert_eq!((in_full("64M"), in_full("256K"), in_full("ON")), ("67108864".into(), "262144".into(), "ON".into()));
    }
}
