//! What tests leave in the Docker engine: a test that does not clean up after itself has failed.

use std::collections::BTreeMap;
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::docker;
use crate::failure::{Failure, Result};

/// Everything the library makes in an engine carries this label.
const LABEL: &str = "label=io.trove.scope";
/// Containers that remove themselves take a moment after their program has ended.
const GRACE: Duration = Duration::from_secs(5);

/// The library's containers and networks in the engine, by id with their names.
#[derive(Debug, Default)]
pub(crate) struct Belongings {
    containers: BTreeMap<String, String>,
    networks: BTreeMap<String, String>,
}

/// What is there now.
pub(crate) fn list() -> Result<Belongings> {
    let containers = docker(["ps", "--all", "--no-trunc", "--filter", LABEL, "--format", "{{.ID}} {{.Names}}"]);
    let networks = docker(["network", "ls", "--no-trunc", "--filter", LABEL, "--format", "{{.ID}} {{.Name}}"]);
    Ok(Belongings { containers: by_id(&containers.capture()?), networks: by_id(&networks.capture()?) })
}

/// Removes what has appeared since `before` was listed, and fails if there was any.
pub(crate) fn sweep(before: &Belongings) -> Result<()> {
    let started = Instant::now();
    let mut left = list()?.since(before);
    while !left.is_empty() && started.elapsed() < GRACE {
        thread::sleep(Duration::from_millis(500));
        left = list()?.since(before);
    }
    if left.is_empty() {
        return Ok(());
    }
    let outcome = remove(&left);
    let fate = outcome.map_or_else(|failure| format!("not all could be removed: {failure}"), |()| "now removed".into());
    Err(Failure::new(format!("tests left {left} behind; {fate}")))
}

impl Belongings {
    pub(crate) fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.networks.is_empty()
    }

    fn since(mut self, before: &Self) -> Self {
        self.containers.retain(|id, _| !before.containers.contains_key(id));
        self.networks.retain(|id, _| !before.networks.contains_key(id));
        self
    }
}

impl fmt::Display for Belongings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [(&self.containers, "container"), (&self.networks, "network")];
        let counted = kinds.iter().filter(|(things, _)| !things.is_empty()).map(|(things, kind)| {
            let names: Vec<_> = things.values().map(String::as_str).collect();
            let plural = if names.len() == 1 { "" } else { "s" };
            format!("{} {kind}{plural} ({})", names.len(), names.join(", "))
        });
        f.write_str(&counted.collect::<Vec<_>>().join(" and "))
    }
}

/// Tries each one, whatever became of the others.
fn remove(left: &Belongings) -> Result<()> {
    let containers = left.containers.keys().map(|id| docker(["rm", "--force", "--volumes", id]));
    let networks = left.networks.keys().map(|id| docker(["network", "rm", id]));
    let failures: Vec<_> =
        containers.chain(networks).filter_map(|task| task.capture().err()).map(|failure| failure.to_string()).collect();
    if failures.is_empty() { Ok(()) } else { Err(Failure::new(failures.join("; "))) }
}

fn by_id(listing: &str) -> BTreeMap<String, String> {
    listing.lines().filter_map(|line| line.split_once(' ')).map(|(id, name)| (id.into(), name.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::{Belongings, by_id};

    #[test]
    fn only_what_appeared_since_counts() {
        let before = Belongings { containers: by_id("a one\n"), networks: by_id("") };
        let after = Belongings { containers: by_id("a one\nb two\n"), networks: by_id("n net\n") };
        let left = after.since(&before);
        assert_eq!(left.to_string(), "1 container (two) and 1 network (net)");
        assert!(left.since(&Belongings { containers: by_id("b two"), networks: by_id("n net") }).is_empty());
    }
}
