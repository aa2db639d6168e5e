use std::{fmt, process::ExitCode, time::Duration};

use serde::Serialize;

/// The results of a suite, case by case.
///
/// [`Display`](fmt::Display) prints the totals of each group, if there are several, every case that
/// did not pass with its reason, and the overall totals:
///
/// ```text
///                           passed  failed skipped   seconds
/// lifecycle                     15       1       0      21.4
/// observe                        8       0       1      15.0
///
/// FAILED   lifecycle::removing_an_absent_server_is_ok
///          called `Result::unwrap()` on an `Err` value: ...
/// skipped  observe::a_full_volume_is_observed_until_it_is_freed
///          the testbed cannot fill volumes
/// mydb: 23 passed, 1 failed, 1 skipped
/// ```
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The name of the implementation under test.
    pub subject: String,
    /// The results of all cases that ran, in the order of the suite.
    pub cases: Vec<CaseResult>,
}

/// The result of one case.
#[derive(Clone, Debug, Serialize)]
pub struct CaseResult {
    /// The name with its group, such as `accounts::users::dropping_an_absent_user_is_ok`.
    pub name: String,
    /// Whether the case passed.
    #[serde(flatten)]
    pub outcome: CaseOutcome,
    /// The duration of the case, including setup and cleanup.
    #[serde(rename = "milliseconds", serialize_with = "milliseconds")]
    pub duration: Duration,
}

/// The outcome of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "detail")]
pub enum CaseOutcome {
    /// The implementation meets the requirement.
    Passed,
    /// The implementation does not meet it. Contains the message of the panic.
    Failed(String),
    /// The implementation lacks the ability under test, or the testbed cannot run the case.
    /// Contains the reason.
    Skipped(String),
}

/// The totals of one group of cases.
#[derive(Default)]
struct GroupTotals<'a> {
    name: &'a str,
    passed: usize,
    failed: usize,
    skipped: usize,
    duration: Duration,
}

impl Report {
    /// Returns true if no case failed and at least one passed.
    pub fn passed(&self) -> bool {
        self.failures().next().is_none() && self.count(|outcome| *outcome == CaseOutcome::Passed) > 0
    }

    /// Returns the names of the failed cases with their failure messages.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.cases.iter().filter_map(|case| match &case.outcome {
            CaseOutcome::Failed(message) => Some((case.name.as_str(), message.as_str())),
            CaseOutcome::Passed | CaseOutcome::Skipped(_) => None,
        })
    }

    /// Returns success if the suite [passed](Self::passed), as the exit code of a program.
    pub fn exit_code(&self) -> ExitCode {
        if self.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Returns the report as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Returns the totals of the groups, in the order of the suite.
    fn groups(&self) -> Vec<GroupTotals<'_>> {
        let mut groups: Vec<GroupTotals<'_>> = Vec::new();
        for case in &self.cases {
            let name = case.name.rsplit_once("::").map_or("", |(group, _)| group);
            let index = groups.iter().position(|group| group.name == name).unwrap_or_else(|| {
                groups.push(GroupTotals { name, ..GroupTotals::default() });
                groups.len() - 1
            });
            let group = &mut groups[index];
            group.duration += case.duration;
            match case.outcome {
                CaseOutcome::Passed => group.passed += 1,
                CaseOutcome::Failed(_) => group.failed += 1,
                CaseOutcome::Skipped(_) => group.skipped += 1,
            }
        }
        groups
    }

    fn count(&self, matches: impl Fn(&CaseOutcome) -> bool) -> usize {
        self.cases.iter().filter(|case| matches(&case.outcome)).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = self.groups();
        if groups.len() > 1 {
            writeln!(f, "{:<24} {:>7} {:>7} {:>7} {:>9}", "", "passed", "failed", "skipped", "seconds")?;
            for GroupTotals { name, passed, failed, skipped, duration } in groups {
                writeln!(f, "{name:<24} {passed:>7} {failed:>7} {skipped:>7} {:>9.1}", duration.as_secs_f64())?;
            }
            writeln!(f)?;
        }
        for case in &self.cases {
            let (label, detail) = match &case.outcome {
                CaseOutcome::Passed => continue,
                CaseOutcome::Failed(message) => ("FAILED", message),
                CaseOutcome::Skipped(reason) => ("skipped", reason),
            };
            writeln!(f, "{label:<8} {}\n         {}", case.name, detail.replace('\n', "\n         "))?;
        }
        let passed = self.count(|outcome| *outcome == CaseOutcome::Passed);
        let skipped = self.count(|outcome| matches!(outcome, CaseOutcome::Skipped(_)));
        write!(f, "{}: {passed} passed, {} failed, {skipped} skipped", self.subject, self.failures().count())
    }
}

fn milliseconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
