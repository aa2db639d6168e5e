//! The dependencies that `deny.toml` bans, looked for with nothing but cargo; and cargo-deny itself where installed.

use std::fs;
use std::time::Duration;

use crate::failure::{Failure, Result};
use crate::machine;
use crate::process::cargo;

const POLICY: &str = "deny.toml";
const TREE: [&str; 9] =
    ["tree", "--workspace", "--all-features", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"];

/// Fails if a banned crate is in the build of any member, naming who brings it in.
pub(crate) fn banned() -> Result<()> {
    let policy = fs::read_to_string(machine::root().join(POLICY))
        .map_err(|error| Failure::new(format!("cannot read {POLICY}: {error}")))?;
    let bans = bans(&policy)?;
    let tree = cargo(TREE).limit(Duration::from_mins(5)).capture()?;
    let mut found: Vec<(&str, &Ban)> = Vec::new();
    for line in tree.lines() {
        let krate = line.trim_end_matches(" (*)");
        let name = krate.split(' ').next().unwrap_or_default();
        if let Some(ban) = bans.iter().find(|ban| ban.name == name)
            && !found.iter().any(|(known, _)| *known == krate)
        {
            found.push((krate, ban));
        }
    }
    let mut offences = Vec::new();
    for (krate, ban) in found {
        let users = users(krate)?;
        let unlawful: Vec<_> = users.into_iter().filter(|user| !ban.wrappers.contains(user)).collect();
        if !unlawful.is_empty() {
            offences.push(format!("{krate} ({}), brought in by {}", ban.reason, unlawful.join(", ")));
        }
    }
    if offences.is_empty() { Ok(()) } else { Err(Failure::new(offences.join("; "))) }
}

/// Whether cargo-deny is installed.
pub(crate) fn has_cargo_deny() -> bool {
    cargo(["deny", "--version"]).capture().is_ok()
}

/// The whole policy: bans, duplicates, licences and sources.
pub(crate) fn policy() -> Result<()> {
    cargo(["deny", "check", "bans", "licenses", "sources"]).limit(Duration::from_mins(5)).run()
}

/// Who depends on this crate directly; `krate` reads as in cargo's tree, `name v1.2.3`.
fn users(krate: &str) -> Result<Vec<String>> {
    let mut words = krate.split(' ');
    let name = words.next().unwrap_or_default();
    let version = words.next().unwrap_or_default().trim_start_matches('v');
    let task = cargo(TREE).args(["--invert", &format!("{name}@{version}"), "--depth", "1"]);
    let tree = task.limit(Duration::from_mins(1)).capture()?;
    Ok(tree.lines().skip(1).filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}

/// One row of the list.
#[derive(Debug, PartialEq, Eq)]
struct Ban {
    name: String,
    reason: String,
    /// Who may use it all the same.
    wrappers: Vec<String>,
}

/// Reads the list `deny = [...]` of the policy, one row on each line.
fn bans(policy: &str) -> Result<Vec<Ban>> {
    let rows = policy.lines().map(str::trim).skip_while(|line| *line != "deny = [").skip(1);
    let rows = rows.take_while(|line| *line != "]").filter(|line| !line.is_empty() && !line.starts_with('#'));
    let bans = rows.map(|row| ban(row).ok_or_else(|| unreadable(row))).collect::<Result<Vec<_>>>()?;
    if bans.is_empty() { Err(unreadable("there is no list `deny = [`")) } else { Ok(bans) }
}

fn ban(row: &str) -> Option<Ban> {
    let name = quoted_after(row, "crate = ")?;
    let reason = quoted_after(row, "reason = ")?;
    let wrappers = row.split_once("wrappers = [").and_then(|(_, rest)| rest.split_once(']')).map(|(list, _)| list);
    let wrappers = wrappers.unwrap_or_default().split(',').map(|name| name.trim().trim_matches('"').to_owned());
    Some(Ban { name, reason, wrappers: wrappers.filter(|name| !name.is_empty()).collect() })
}

fn quoted_after(row: &str, key: &str) -> Option<String> {
    row.split_once(key)?.1.strip_prefix('"')?.split_once('"').map(|(value, _)| value.to_owned())
}

fn unreadable(what: &str) -> Failure {
    Failure::new(format!("{POLICY}: {what} (rows read `{{ crate = \"name\", reason = \"why\" }},`)"))
}

#[cfg(test)]
mod tests {
    use super::{Ban, bans};

    #[test]
    fn the_list_is_read_with_its_exceptions() {
        let policy = "[bans]\ndeny = [\n    # why\n    { crate = \"ring\", reason = \"one\" },\n    \
            { crate = \"chrono\", wrappers = [\"a\", \"b\"], reason = \"two\" },\n]\nskip = [\n    { crate = \"x\" },\n]\n";
        let ring = Ban { name: "ring".into(), reason: "one".into(), wrappers: vec![] };
        let chrono = Ban { name: "chrono".into(), reason: "two".into(), wrappers: vec!["a".into(), "b".into()] };
        assert_eq!(bans(policy).unwrap(), [ring, chrono]);
    }

    #[test]
    fn a_list_that_cannot_be_read_is_an_error_and_not_an_empty_list() {
        for policy in ["", "[bans]\ndeny = [\n]\n", "deny = [\n    \"ring\",\n]\n"] {
            assert!(bans(policy).is_err(), "{policy}");
        }
    }

    #[test]
    fn the_policy_of_this_repository_is_readable() {
        let names: Vec<_> = bans(include_str!("../../deny.toml")).unwrap().into_iter().map(|ban| ban.name).collect();
        for name in ["ring", "openssl", "openssl-sys", "native-tls", "rsa"] {
            assert!(names.iter().any(|known| known == name), "{name}");
        }
    }
}
