use std::{fmt, process::ExitCode, time::Duration};

use serde::Serialize;

/// What came of a suite, case by case.
///
/// [`Display`](fmt::Display) is a table for people: the counts of each group, a line for each case that did not pass, and
/// the counts in all.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// What was tried: the name of a driver, a store.
    pub subject: String,
    /// All cases, in the order of the suite.
    pub cases: Vec<Entry>,
}

/// What came of one case.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// What it proves: `accounts::dropping_an_absent_user_is_ok`.
    pub name: String,
    /// Whether it did.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How long it took.
    #[serde(rename = "milliseconds", serialize_with = "milliseconds")]
    pub took: Duration,
}

/// Whether a case passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "detail")]
pub enum Outcome {
    /// The subject does what it should.
    Passed,
    /// It does not: how it showed.
    Failed(String),
    /// The subject lacks what the case is about, or the place what it needs: which.
    Skipped(String),
}

/// What came of the cases of one group.
#[derive(Default)]
struct Group<'a> {
    name: &'a str,
    passed: usize,
    failed: usize,
    skipped: usize,
    took: Duration,
}

impl Report {
    /// True where no case failed and at least one passed.
    pub fn passed(&self) -> bool {
        self.failures().next().is_none() && self.count(|outcome| *outcome == Outcome::Passed) > 0
    }

    /// The cases that failed, with how it showed.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.cases.iter().filter_map(|case| match &case.outcome {
            Outcome::Failed(how) => Some((case.name.as_str(), how.as_str())),
            Outcome::Passed | Outcome::Skipped(_) => None,
        })
    }

    /// For a program's `main`: success where it [passed](Self::passed).
    pub fn exit_code(&self) -> ExitCode {
        if self.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// The whole report for machines.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// What came of the cases of each group, in the order of the suite.
    fn groups(&self) -> Vec<Group<'_>> {
        let mut groups: Vec<Group<'_>> = Vec::new();
        for case in &self.cases {
            let name = case.name.rsplit_once("::").map_or("", |(group, _)| group);
            let at = groups.iter().position(|group| group.name == name).unwrap_or_else(|| {
                groups.push(Group { name, ..Group::default() });
                groups.len() - 1
            });
            let group = &mut groups[at];
            group.took += case.took;
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
            for Group { name, passed, failed, skipped, took } in groups {
                writeln!(f, "{name:<24} {passed:>7} {failed:>7} {skipped:>7} {:>9.1}", took.as_secs_f64())?;
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

fn milliseconds<S: serde::Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(took.as_millis()).unwrap_or(u64::MAX))
}
