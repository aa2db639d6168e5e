//! The crates that `deny.toml` bans, checked with cargo alone; and cargo-deny itself if it is
//! installed.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use toml::{Table, Value};

use crate::command::cargo;
use crate::error::{Error, Result};
use crate::machine;

const CONFIGURATION: &str = "deny.toml";
/// Prints the depth and the name of each package; the dependencies of a package are printed where
/// it first occurs.
const TREE: [&str; 9] =
    ["tree", "--workspace", "--all-features", "--edges", "normal,build", "--prefix", "depth", "--format", " {p}"];

/// Fails if any member is built with a banned crate, naming its direct dependents.
pub(crate) fn check() -> Result<()> {
    let text = fs::read_to_string(machine::repository().join(CONFIGURATION))
        .map_err(|error| Error::new(format!("could not read {CONFIGURATION}: {error}")))?;
    let bans = parse_bans(&text)?;
    let tree = cargo(TREE).timeout(Duration::from_mins(5)).output()?;
    let violations: Vec<_> = banned_dependencies(&tree, &bans)
        .into_iter()
        .map(|(name, dependents)| format!("{name} ({}), used by {}", bans[name].reason, dependents.join(", ")))
        .collect();
    if violations.is_empty() { Ok(()) } else { Err(Error::new(violations.join("; "))) }
}

/// Returns true if cargo-deny is installed.
pub(crate) fn has_cargo_deny() -> bool {
    cargo(["deny", "--version"]).output().is_ok()
}

/// Checks the whole policy: bans, duplicates, licenses and sources.
pub(crate) fn cargo_deny() -> Result<()> {
    cargo(["deny", "check", "bans", "licenses", "sources"]).timeout(Duration::from_mins(5)).run()
}

/// An entry of `bans.deny`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ban {
    reason: String,
    /// The crates that may depend on it nevertheless.
    wrappers: Vec<String>,
}

/// Reads `bans.deny`, by crate name.
fn parse_bans(configuration: &str) -> Result<BTreeMap<String, Ban>> {
    let invalid = |what: String| Error::new(format!("{CONFIGURATION}: {what}"));
    let table: Table = configuration.parse().map_err(|error| invalid(format!("{error}")))?;
    let entries = table.get("bans").and_then(|bans| bans.get("deny")).and_then(Value::as_array);
    let entries = entries.filter(|entries| !entries.is_empty()).ok_or_else(|| invalid("no list `bans.deny`".into()))?;
    let text = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
    let bans = entries.iter().map(|entry| {
        let name = text(entry, "crate").ok_or_else(|| invalid(format!("an entry without `crate`: {entry:?}")))?;
        let wrappers = entry.get("wrappers").and_then(Value::as_array).into_iter().flatten();
        let wrappers = wrappers.filter_map(Value::as_str).map(str::to_owned).collect();
        Ok((name, Ban { reason: text(entry, "reason").unwrap_or_default(), wrappers }))
    });
    bans.collect()
}

/// Returns the banned packages of a tree as printed by [`TREE`], each with its direct dependents.
fn banned_dependencies<'a>(tree: &'a str, bans: &BTreeMap<String, Ban>) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut banned: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut path: Vec<&str> = Vec::new();
    for line in tree.lines() {
        let mut words = line.split_whitespace();
        let (Some(depth), Some(name)) = (words.next().and_then(|depth| depth.parse().ok()), words.next()) else {
            continue;
        };
        path.truncate(depth);
        if let (Some(ban), Some(dependent)) = (bans.get(name), path.last())
            && !ban.wrappers.iter().any(|wrapper| wrapper == dependent)
        {
            let dependents = banned.entry(name).or_default();
            if !dependents.contains(dependent) {
                dependents.push(dependent);
            }
        }
        path.push(name);
    }
    banned
}

#[cfg(test)]
mod tests {
    use super::{banned_dependencies, parse_bans};

    const BANS: &str = r#"
        [bans]
        deny = [
            { crate = "ring", reason = "one provider" },
            { crate = "chrono", wrappers = ["calendar"], reason = "time is jiff" },
        ]
    "#;

    #[test]
    fn banned_crates_are_reported_with_dependents_that_are_no_exception() {
        let bans = parse_bans(BANS).unwrap();
        let tree = "0 member v0.1.0 (/path)\n1 calendar v1.0.0\n2 chrono v0.4.0\n1 tls v2.0.0\n2 ring v0.17.0\n\
            1 clock v1.0.0\n2 chrono v0.4.0\n\n0 other v0.1.0 (/path)\n1 ring v0.17.0 (*)\n";
        let banned = banned_dependencies(tree, &bans);
        assert_eq!(banned.into_iter().collect::<Vec<_>>(), [("chrono", vec!["clock"]), ("ring", vec!["tls", "other"])]);
    }

    #[test]
    fn a_configuration_without_bans_is_an_error() {
        for configuration in ["", "[bans]\ndeny = []\n", "[bans]\ndeny = [\"ring\"]\n", "deny ="] {
            assert!(parse_bans(configuration).is_err(), "{configuration}");
        }
    }

    #[test]
    fn the_configuration_of_this_repository_bans_other_tls_providers() {
        let bans = parse_bans(include_str!("../../deny.toml")).unwrap();
        for name in ["ring", "openssl", "openssl-sys", "native-tls", "rsa"] {
            assert!(bans.contains_key(name), "{name}");
        }
    }
}
