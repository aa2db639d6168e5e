//! The test programs of this workspace: built by cargo, then run beside each other, so that
//! the processors are not idle while tests wait for servers.

use std::num::NonZero;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::checks::BUILD_TIMEOUT;
use crate::command::{Command, cargo};
use crate::error::Result;

const WORKSPACE: [&str; 2] = ["--workspace", "--all-features"];

/// The programs to start first, so that the stage does not end with one of them running alone.
const SLOWEST: [&str; 3] = ["trove-drivers conformance", "trove-drivers engines", "trove-core amqp"];

/// A program with tests, or the documentation tests.
pub(crate) struct TestProgram {
    /// The package and the target, such as `trove-core service`.
    name: String,
    /// The executable and the directory of its package; none for the documentation tests.
    executable: Option<(PathBuf, PathBuf)>,
}

/// The output of a program that has ended.
pub(crate) struct Finished {
    pub(crate) name: String,
    pub(crate) output: String,
    pub(crate) duration: Duration,
    pub(crate) outcome: Result<()>,
}

/// A message of cargo about a file that it built. Other messages have other fields.
#[derive(Deserialize)]
struct Artifact {
    manifest_path: PathBuf,
    target: Target,
    profile: Profile,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds all tests, and returns their programs and the documentation tests.
pub(crate) fn build() -> Result<Vec<TestProgram>> {
    let mut programs = vec![TestProgram { name: "documentation".to_owned(), executable: None }];
    let build = cargo(["test", "--no-run", "--message-format=json-render-diagnostics"]).args(WORKSPACE);
    build.timeout(BUILD_TIMEOUT).for_each_stdout_line(|line| programs.extend(TestProgram::from_message(line)))?;
    programs.sort_by_key(|program| SLOWEST.iter().position(|name| *name == program.name).unwrap_or(SLOWEST.len()));
    Ok(programs)
}

/// Runs the programs, one more at a time than there are processors, and passes each result to
/// `on_finished`. All run even if one fails.
pub(crate) fn run(
    programs: &[TestProgram],
    configure: impl Fn(Command) -> Command + Sync,
    on_finished: impl FnMut(Finished),
) {
    let lanes = 1 + thread::available_parallelism().map_or(1, NonZero::get);
    let next = AtomicUsize::new(0);
    let (sender, finished) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..lanes {
            let (next, configure, sender) = (&next, &configure, sender.clone());
            scope.spawn(move || {
                while let Some(program) = programs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let _ = sender.send(program.run(configure));
                }
            });
        }
        drop(sender);
        finished.into_iter().for_each(on_finished);
    });
}

impl TestProgram {
    /// Returns the program that a message of cargo announces.
    fn from_message(line: &str) -> Option<Self> {
        let artifact: Artifact = serde_json::from_str(line).ok()?;
        let executable = artifact.executable.filter(|_| artifact.profile.test)?;
        let package = artifact.manifest_path.parent()?.to_owned();
        let name = format!("{} {}", package.file_name()?.to_string_lossy(), artifact.target.name);
        Some(Self { name, executable: Some((executable, package)) })
    }

    /// Runs this to its end. Its output is kept together, since that of others comes meanwhile.
    fn run(&self, configure: impl Fn(Command) -> Command) -> Finished {
        let command = match &self.executable {
            Some((executable, package)) => {
                Command::new(executable).directory(package).env("CARGO_MANIFEST_DIR", package)
            }
            None => cargo(["test", "--doc", "--no-fail-fast"]).args(WORKSPACE).args(["--"]),
        };
        let (started, mut output) = (Instant::now(), String::new());
        let outcome = configure(command).for_each_line(|_, line| output.push_str(line));
        Finished { name: self.name.clone(), output, duration: started.elapsed(), outcome }
    }
}

#[cfg(test)]
mod tests {
    use super::TestProgram;

    #[test]
    fn programs_with_tests_are_found_among_the_messages_of_cargo() {
        let message = |test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/r/trove-core/Cargo.toml","target":{{"name":"amqp"}},
                "profile":{{"test":{test}}},"executable":{executable}}}"#
            )
        };
        let name = |line: &str| TestProgram::from_message(line).map(|program| program.name);
        assert_eq!(name(&message(true, r#""/r/target/amqp-1""#)), Some("trove-core amqp".to_owned()));
        for other in [
            message(false, r#""/r/target/quickstart""#),
            message(true, "null"),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
            String::new(),
        ] {
            assert_eq!(name(&other), None, "{other}");
        }
    }
}
