use std::time::{Duration, Instant};

/// The milestones of one run, with the time from its start to each.
#[derive(Clone, Debug)]
pub struct Timeline {
    started: Instant,
    milestones: Vec<(String, Duration)>,
}

impl Timeline {
    /// Starts the clock.
    pub fn start() -> Self {
        Self { started: Instant::now(), milestones: Vec::new() }
    }

    /// Records that a milestone is reached now.
    pub fn record(&mut self, milestone: &str) {
        self.record_at(milestone, self.started.elapsed());
    }

    /// Records when a milestone was reached, unless an earlier time is recorded.
    pub fn record_at(&mut self, milestone: &str, after: Duration) {
        if self.milestones.iter().all(|(other, _)| other != milestone) {
            self.milestones.push((milestone.to_owned(), after));
        }
    }

    /// Returns the milestones with their times in seconds.
    pub fn milestones(&self) -> impl Iterator<Item = (&str, f64)> {
        self.milestones.iter().map(|(name, after)| (name.as_str(), after.as_secs_f64()))
    }

    /// Returns the time of the last milestone in seconds, or NaN if there is none.
    pub fn total(&self) -> f64 {
        self.milestones().last().map_or(f64::NAN, |(_, after)| after)
    }
}
