//! `cargo xtask test` and `cargo xtask stress`.

use std::env;
use std::fmt;
use std::num::NonZero;
use std::thread;
use std::time::{Duration, Instant};

use crate::command::Command;
use crate::error::{Error, Result, all_ok};
use crate::images::AvailableImage;
use crate::load::Load;
use crate::test_directory::TestDirectory;
use crate::test_programs::{self, TestProgram};
use crate::{banned_crates, checks, docker, images, machine};

/// Names the registry program of a test; the default is that of Debian.
const REGISTRY_VARIABLE: &str = "TROVE_TEST_REGISTRY";
/// Makes tests of both tiers cover more in the full tier. Tests that only run there are ignored in the quick tier.
const FULL_VARIABLE: &str = "TROVE_TEST_FULL";
const DEFAULT_ROUNDS: u32 = 5;

/// The arguments of `cargo xtask test`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TestOptions {
    full: bool,
    /// A part of test names. Without it, all tests and checks run.
    filter: Option<String>,
}

impl TestOptions {
    pub(crate) fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self::default();
        for arg in args {
            match arg.as_str() {
                "--full" => options.full = true,
                flag if flag.starts_with('-') => return Err(Error::usage(format!("`test` has no option `{flag}`"))),
                filter if options.filter.is_none() => options.filter = Some(filter.to_owned()),
                other => return Err(Error::usage(format!("`test` takes one filter, and found another, `{other}`"))),
            }
        }
        Ok(options)
    }

    /// The time after which the tests are considered to hang, not the time that they should take.
    fn timeout(&self) -> Duration {
        Duration::from_mins(if self.full { 180 } else { 60 })
    }
}

/// Parses the arguments of `cargo xtask stress`.
pub(crate) fn parse_rounds(args: &[String]) -> Result<u32> {
    let value = match args {
        [] => return Ok(DEFAULT_ROUNDS),
        [flag, value] if flag == "--rounds" => value.as_str(),
        [flag] => flag.strip_prefix("--rounds=").unwrap_or_default(),
        _ => "",
    };
    value.parse().ok().filter(|rounds| *rounds > 0).ok_or_else(|| Error::usage("`stress` takes `--rounds N`"))
}

/// Runs the checks and tests up to the first stage that fails, then prints a summary. A filter
/// selects tests and skips the checks.
pub(crate) fn test(options: &TestOptions) -> Result<()> {
    Report::print_after(|report| {
        if options.filter.is_none() {
            run_checks(report)?;
        }
        let prepared = prepare(report)?;
        run_tests(report, "tests", options, &prepared)
    })
}

/// Runs the tests several times while all processors are kept busy.
pub(crate) fn stress(rounds: u32) -> Result<()> {
    Report::print_after(|report| {
        let prepared = prepare(report)?;
        let _load = Load::start()?;
        let rounds = (1..=rounds).map(|round| format!("tests, round {round} of {rounds}"));
        let outcomes: Vec<_> =
            rounds.map(|name| run_tests(report, &name, &TestOptions::default(), &prepared)).collect();
        all_ok(outcomes.into_iter().filter_map(Result::err))
    })
}

fn run_checks(report: &mut Report) -> Result<()> {
    report.stage("format", checks::format)?;
    report.stage("banned crates", banned_crates::check)?;
    if banned_crates::has_cargo_deny() {
        report.stage("cargo-deny", banned_crates::cargo_deny)?;
    }
    report.stage("lints", checks::lints)?;
    report.stage("feature sets", checks::feature_sets)?;
    report.stage("documentation", checks::documentation)
}

/// The test programs, and the images of their containers.
struct Prepared {
    programs: Vec<TestProgram>,
    images: Vec<AvailableImage>,
}

/// Builds the tests and makes the engine, the images and other programs available.
fn prepare(report: &mut Report) -> Result<Prepared> {
    let programs = report.stage("building the tests", test_programs::build)?;
    let _lock = machine::lock_setup()?;
    report.stage("docker engine", docker::ensure)?;
    let images = report.stage("images", images::ensure_all)?;
    report.stage("programs", ensure_programs)?;
    report.stage("killed runs", TestDirectory::remove_abandoned)?;
    Ok(Prepared { programs, images })
}

/// Makes the programs available that tests start.
fn ensure_programs() -> Result<()> {
    if machine::is_root() && !["nft", "ip", "sysctl"].into_iter().all(machine::has_program) {
        machine::apt_install("nftables iproute2 procps", "testing the isolation of networks")?;
    }
    let named = env::var_os(REGISTRY_VARIABLE).is_some_and(|program| !program.is_empty());
    if named || machine::has_program("docker-registry") {
        return Ok(());
    }
    machine::apt_install("docker-registry", "testing a private registry")
}

/// Runs the tests in a temporary directory of their own, then removes what they left behind.
fn run_tests(report: &mut Report, name: &str, options: &TestOptions, prepared: &Prepared) -> Result<()> {
    let directory = TestDirectory::create()?;
    let mut counts = Counts::default();
    let tested = report.stage(name, || run_programs(options, prepared, &directory, &mut counts));
    report.counts.add(counts);
    let swept = report.stage("leftovers", || directory.sweep());
    all_ok([tested.err(), swept.err()].into_iter().flatten())
}

fn run_programs(
    options: &TestOptions,
    prepared: &Prepared,
    directory: &TestDirectory,
    counts: &mut Counts,
) -> Result<()> {
    for available in &prepared.images {
        eprintln!("{}={}", available.image.variable(), available.name);
    }
    // Tests mostly wait for servers.
    let threads = (2 * thread::available_parallelism().map_or(1, NonZero::get)).to_string();
    let configure = |command: Command| {
        let mut command = command.args(&options.filter).env("RUST_TEST_THREADS", &threads);
        command = command.env("TMPDIR", directory.path()).timeout(options.timeout());
        if options.full {
            command = command.args(["--include-ignored"]).env(FULL_VARIABLE, "1");
        }
        let images = prepared.images.iter();
        images.fold(command, |command, available| command.env(&available.image.variable(), &available.name))
    };
    let mut errors = Vec::new();
    test_programs::run(&prepared.programs, configure, |program| {
        println!("\n== {} ({:.1} s)\n{}", program.name, program.duration.as_secs_f64(), program.output);
        program.output.lines().for_each(|line| counts.add_line(line));
        errors.extend(program.outcome.err().map(|error| Error::new(format!("{}: {error}", program.name))));
    });
    all_ok(errors)
}

/// The sum of the `test result:` lines, and the names of the tests that failed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
    failures: Vec<String>,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.failures.extend(other.failures);
    }

    fn add_line(&mut self, line: &str) {
        let failure = line.strip_prefix("test ").and_then(|rest| rest.trim_end().strip_suffix(" ... FAILED"));
        // Names are padded by some test programs.
        self.failures.extend(failure.map(|name| name.trim_end().to_owned()));
        let Some(counts) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else { return };
        for count in counts.1.split(';') {
            let mut words = count.split_whitespace();
            let number = words.next().and_then(|number| number.parse::<u64>().ok()).unwrap_or_default();
            match words.next() {
                Some("passed") => self.passed += number,
                Some("failed") => self.failed += number,
                Some("ignored") => self.ignored += number,
                _ => {}
            }
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.ignored > 0 { write!(f, ", {} ignored", self.ignored) } else { Ok(()) }
    }
}

/// The outcome of each stage.
struct Report {
    stages: Vec<(String, Duration, bool)>,
    started: Instant,
    counts: Counts,
}

impl Report {
    fn print_after(run: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let mut report = Self { stages: Vec::new(), started: Instant::now(), counts: Counts::default() };
        let outcome = run(&mut report);
        print!("\n{report}");
        outcome
    }

    fn stage<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        eprintln!("\n== {name}");
        let started = Instant::now();
        let outcome = work();
        self.stages.push((name.to_owned(), started.elapsed(), outcome.is_ok()));
        outcome.map_err(|error| Error::new(format!("{name}: {error}")))
    }
}

/// Prints failures and counts last, since readers of a log look for them there.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, duration, ok) in &self.stages {
            writeln!(f, "{name:<24} {:<6} {:>7.1} s", if *ok { "ok" } else { "FAILED" }, duration.as_secs_f64())?;
        }
        writeln!(f, "{:<31} {:>7.1} s", "total", self.started.elapsed().as_secs_f64())?;
        for failure in &self.counts.failures {
            writeln!(f, "failed: {failure}")?;
        }
        if self.counts == Counts::default() { Ok(()) } else { writeln!(f, "{}", self.counts) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, TestOptions, parse_rounds};

    fn args(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn arguments_are_parsed_and_unknown_options_rejected() {
        let options = TestOptions::parse(&args("lifecycle --full")).unwrap();
        assert_eq!(options, TestOptions { full: true, filter: Some("lifecycle".to_owned()) });
        for line in ["--fast", "lifecycle events"] {
            assert!(TestOptions::parse(&args(line)).is_err(), "{line}");
        }
        for (line, rounds) in [("", 5), ("--rounds 3", 3), ("--rounds=2", 2)] {
            assert_eq!(parse_rounds(&args(line)).unwrap(), rounds);
        }
        for line in ["--rounds", "--rounds 0", "--rounds many", "3", "--rounds 3 4"] {
            assert!(parse_rounds(&args(line)).is_err(), "{line}");
        }
    }

    #[test]
    fn results_of_all_test_programs_are_collected() {
        let mut counts = Counts::default();
        counts.add_line("running 3 tests\n");
        assert_eq!(counts, Counts::default());
        for line in [
            "test adds_up ... ok\n",
            "test service::starts   ... FAILED\n",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 5 filtered out; finished in 0.00s\n",
            "test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.02s\n",
        ] {
            counts.add_line(line);
        }
        let failures = vec!["service::starts".to_owned()];
        assert_eq!(counts, Counts { passed: 14, failed: 3, ignored: 1, failures });
        assert_eq!(counts.to_string(), "14 passed, 3 failed, 1 ignored");
    }
}
