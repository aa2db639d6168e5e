use std::time::{Duration, Instant};

/// When each thing was reached, counted from the request.
#[derive(Clone, Debug)]
pub struct Marks {
    started: Instant,
    reached: Vec<(String, Duration)>,
}

impl Marks {
    /// Starts counting.
    pub fn start() -> Self {
        Self { started: Instant::now(), reached: Vec::new() }
    }

    /// Now this has been reached.
    pub fn reach(&mut self, what: &str) {
        self.add(what, self.started.elapsed());
    }

    /// This was reached after so long, unless it had been before.
    pub fn add(&mut self, what: &str, after: Duration) {
        if self.reached.iter().all(|(other, _)| other != what) {
            self.reached.push((what.to_owned(), after));
        }
    }

    /// What was reached, and after how many seconds.
    pub fn reached(&self) -> impl Iterator<Item = (&str, f64)> {
        self.reached.iter().map(|(what, after)| (what.as_str(), after.as_secs_f64()))
    }

    /// After how many seconds the last of them was.
    pub fn total(&self) -> f64 {
        self.reached().last().map_or(f64::NAN, |(_, after)| after)
    }
}
