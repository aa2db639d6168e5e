use std::{fmt, process::ExitCode, time::Duration};

use serde::Serialize;

/// The results of a suite, case by case.
///
/// [`Display`](fmt::Display) prints a table: the counts of each group, a line for each case that did not pass, and the
/// totals.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The implementation under test.
    pub subject: String,
    /// All cases, in the order of the suite.
    pub cases: Vec<CaseResult>,
}

/// The result of one case.
#[derive(Clone, Debug, Serialize)]
pub struct CaseResult {
    /// `accounts::users::dropping_an_absent_user_is_ok`.
    pub name: String,
    /// Whether it passed.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The time that the case took.
    #[serde(rename = "milliseconds", serialize_with = "milliseconds")]
    pub duration: Duration,
}

/// Whether a case passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "detail")]
pub enum Outcome {
    /// The implementation meets the requirement.
    Passed,
    /// It does not: the message of the panic.
    Failed(String),
    /// The implementation lacks what the case is about, or the testbed what it needs: the reason.
    Skipped(String),
}

/// The totals of one group.
#[derive(Default)]
struct Group<'a> {
    name: &'a str,
    passed: usize,
    failed: usize,
    skipped: usize,
    duration: Duration,
}

impl Report {
    /// Returns whether no case failed and at least one passed.
    pub fn passed(&self) -> bool {
        self.failures().next().is_none() && self.count(|outcome| *outcome == Outcome::Passed) > 0
    }

    /// Returns the names of the failed cases with their messages.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.cases.iter().filter_map(|case| match &case.outcome {
            Outcome::Failed(how) => Some((case.name.as_str(), how.as_str())),
            Outcome::Passed | Outcome::Skipped(_) => None,
        })
    }

    /// Returns success where the suite [passed](Self::passed), for a program's `main`.
    pub fn exit_code(&self) -> ExitCode {
        if self.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Returns the whole report as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Returns the totals of the groups in the order of the suite.
    fn groups(&self) -> Vec<Group<'_>> {
        let mut groups: Vec<Group<'_>> = Vec::new();
        for case in &self.cases {
            let name = case.name.rsplit_once("::").map_or("", |(group, _)| group);
            let at = groups.iter().position(|group| group.name == name).unwrap_or_else(|| {
                groups.push(Group { name, ..Group::default() });
                groups.len() - 1
            });
            let group = &mut groups[at];
            group.duration += case.duration;
            match case.outcome {
                Outcome::Passed => group.passed += 1,
                Outcome::Failed(_) => group.failed += 1,
                Outcome::Skipped(_) => group.skipped += 1,
            }
        }
        groups
    }

    fn count(&self, of: impl Fn(&Outcome) -> bool) -> usize {
        self.cases.iter().filter(|case| of(&case.outcome)).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = self.groups();
        if groups.len() > 1 {
            writeln!(f, "{:<24} {:>7} {:>7} {:>7} {:>9}", "", "passed", "failed", "skipped", "seconds")?;
            for Group { name, passed, failed, skipped, duration } in groups {
                writeln!(f, "{name:<24} {passed:>7} {failed:>7} {skipped:>7} {:>9.1}", duration.as_secs_f64())?;
            }
            writeln!(f)?;
        }
        for case in &self.cases {
            let (word, detail) = match &case.outcome {
                Outcome::Passed => continue,
                Outcome::Failed(how) => ("FAILED", how),
                Outcome::Skipped(why) => ("skipped", why),
            };
            writeln!(f, "{word:<8} {}\n         {}", case.name, detail.replace('\n', "\n         "))?;
        }
        let passed = self.count(|outcome| *outcome == Outcome::Passed);
        let skipped = self.count(|outcome| matches!(outcome, Outcome::Skipped(_)));
        write!(f, "{}: {passed} passed, {} failed, {skipped} skipped", self.subject, self.failures().count())
    }
}

fn milliseconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
