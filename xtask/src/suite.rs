//! `cargo xtask test`: every check and every test, in the order of what they cost.

use std::env;
use std::fmt;
use std::num::NonZero;
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::{Failure, Result};
use crate::images::Chosen;
use crate::process::cargo;
use crate::{checks, deny, engine, images, leftovers, machine};

/// The variable that names the registry's program, where it is not Debian's.
const REGISTRY: &str = "TROVE_TEST_REGISTRY";

const TESTS: [&str; 4] = ["test", "--workspace", "--all-features", "--no-fail-fast"];
const BUILD_LIMIT: Duration = Duration::from_mins(20);

/// Runs all stages up to the first that fails, then prints what came of each.
pub(crate) fn run() -> Result<()> {
    let mut report = Report { stages: Vec::new(), started: Instant::now(), tally: None };
    let outcome = stages(&mut report);
    print!("\n{report}");
    outcome
}

fn stages(report: &mut Report) -> Result<()> {
    report.stage("format", checks::format)?;
    report.stage("banned crates", deny::banned)?;
    if deny::has_cargo_deny() {
        report.stage("cargo-deny", deny::policy)?;
    }
    report.stage("lints", checks::lints)?;
    report.stage("features", checks::features)?;
    report.stage("documentation", checks::documentation)?;
    report.stage("building the tests", || cargo(TESTS).args(["--no-run"]).limit(BUILD_LIMIT).run())?;
    report.stage("docker engine", engine::ensure)?;
    let images = report.stage("images", images::ensure_all)?;
    report.stage("registry", registry)?;
    let before = leftovers::list()?;
    if !before.is_empty() {
        eprintln!("note: already there, and left alone: {before}");
    }
    let mut tally = Tally::default();
    let tested = report.stage("tests", || tests(&images, &mut tally));
    report.tally = tally.heard.then_some(tally);
    let swept = report.stage("nothing left behind", || leftovers::sweep(&before));
    match (tested, swept) {
        (Err(first), Err(second)) => Err(Failure::new(format!("{first}; {second}"))),
        (tested, swept) => tested.and(swept),
    }
}

/// A test runs a registry of its own, which wants to know who pulls.
fn registry() -> Result<()> {
    let named = env::var_os(REGISTRY).is_some_and(|program| !program.is_empty());
    if named || machine::has("docker-registry") {
        return Ok(());
    }
    machine::apt_install("docker-registry", "trying a private registry")
}

/// All of them even after a failure, so that the counts are whole.
fn tests(images: &[Chosen], tally: &mut Tally) -> Result<()> {
    // Most of a test's time is waiting for a server.
    let threads = (2 * thread::available_parallelism().map_or(1, NonZero::get)).to_string();
    let mut task = cargo(TESTS).env("RUST_TEST_THREADS", &threads).limit(Duration::from_mins(30));
    for chosen in images {
        eprintln!("{}={}", chosen.image.variable(), chosen.name);
        task = task.env(&chosen.image.variable(), &chosen.name);
    }
    task.watch(|line| {
        print!("{line}");
        tally.hear(line);
    })
}

/// The sum of cargo's own `test result:` lines.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    heard: bool,
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Tally {
    fn hear(&mut self, line: &str) {
        let Some(counts) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else { return };
        self.heard = true;
        for count in counts.1.split(';') {
            let mut words = count.split_whitespace();
            let number = words.next().and_then(|number| number.parse::<u64>().ok()).unwrap_or_default();
            match words.next() {
                Some("passed") => self.passed += number,
                Some("failed") => self.failed += number,
                Some("ignored") => self.skipped += number,
                _ => {}
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 { write!(f, ", {} skipped", self.skipped) } else { Ok(()) }
    }
}

struct Report {
    stages: Vec<(&'static str, Duration, bool)>,
    started: Instant,
    tally: Option<Tally>,
}

impl Report {
    fn stage<T>(&mut self, name: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        eprintln!("\n== {name}");
        let started = Instant::now();
        let outcome = work();
        self.stages.push((name, started.elapsed(), outcome.is_ok()));
        outcome.map_err(|failure| Failure::new(format!("{name}: {failure}")))
    }
}

/// The test count comes last: it is what a reader of the log looks for.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, took, ok) in &self.stages {
            writeln!(f, "{name:<20} {:<6} {:>7.1} s", if *ok { "ok" } else { "FAILED" }, took.as_secs_f64())?;
        }
        writeln!(f, "{:<27} {:>7.1} s", "in all", self.started.elapsed().as_secs_f64())?;
        self.tally.as_ref().map_or(Ok(()), |tally| writeln!(f, "{tally}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn results_are_summed_over_all_test_programs() {
        let mut tally = Tally::default();
        tally.hear("running 3 tests\n");
        assert!(!tally.heard);
        tally.hear("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 5 filtered out; finished in 0.00s\n");
        tally.hear(
            "test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.02s\n",
        );
        assert_eq!(tally.to_string(), "14 passed, 3 failed, 1 skipped");
        assert_eq!(tally, Tally { heard: true, passed: 14, failed: 3, skipped: 1 });
    }
}
