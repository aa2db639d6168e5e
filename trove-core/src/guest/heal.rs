//! When a server is started again: pure, so that every case is in a table.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::{Condition, Health, Problem};

const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A server that served this long is taken to be over what made it fail before.
const PROBATION: Duration = Duration::from_secs(60);

/// What should be done to a server now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    Leave,
    Start,
    Stop,
}

/// Remembers how often a server was started or stopped again.
#[derive(Debug, Default)]
pub(super) struct Healer {
    acts: u32,
    last_act: Option<Instant>,
}

impl Healer {
    /// What to do with a server that should or should not run and is seen like this.
    pub(super) fn remedy(&self, should_run: bool, health: &Health, now: Instant) -> Remedy {
        match health {
            Health::Down(problem) if should_run && may_start(problem.condition) && now >= self.next_act(now) => {
                Remedy::Start
            }
            // It serves, but for one thing that a start does and that a former agent did not come to.
            Health::Impaired(Problem { condition: Condition::ReadOnly, .. })
                if should_run && now >= self.next_act(now) =>
            {
                Remedy::Start
            }
            Health::Healthy | Health::Impaired(_) | Health::Starting if !should_run && now >= self.next_act(now) => {
                Remedy::Stop
            }
            Health::Down(_)
            | Health::Healthy
            | Health::Impaired(_)
            | Health::Starting
            | Health::Stopped
            | Health::Unknown(_) => Remedy::Leave,
        }
    }

    /// When something may be done again.
    fn next_act(&self, now: Instant) -> Instant {
        match (self.last_act, self.acts) {
            (None, _) | (_, 0) => now,
            (Some(last), acts) => last + (Duration::from_secs(1) * 2u32.pow(acts.min(7) - 1)).min(LONGEST_PAUSE),
        }
    }

    /// Notes that something is done.
    pub(super) fn acting(&mut self, now: Instant) {
        self.acts = self.acts.saturating_add(1);
        self.last_act = Some(now);
    }

    /// Notes that it serves.
    pub(super) fn serving(&mut self, now: Instant) {
        if self.last_act.is_some_and(|last| now.duration_since(last) >= PROBATION) {
            *self = Self::default();
        }
    }
}

/// True where starting the server again loses nothing and may help.
fn may_start(condition: Condition) -> bool {
    match condition {
        Condition::Killed
        | Condition::Exited
        | Condition::OutOfMemory
        | Condition::Paused
        | Condition::Removed
        | Condition::DiskFull
        | Condition::StartFailed
        | Condition::ReadOnly => true,
        Condition::NoReport | Condition::RuntimeUnavailable | Condition::NotAnswering | Condition::DataMissing => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down(condition: Condition) -> Health {
        Health::Down(Problem::new(condition, "x"))
    }

    #[tokio::test(start_paused = true)]
    async fn starts_at_once_and_then_with_growing_pauses_until_it_has_served_a_while() {
        let mut healer = Healer::default();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let before = Instant::now();
            while healer.remedy(true, &down(Condition::Killed), Instant::now()) != Remedy::Start {
                tokio::time::advance(Duration::from_secs(1)).await;
            }
            pauses.push(before.elapsed().as_secs());
            healer.acting(Instant::now());
            healer.serving(Instant::now());
        }
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        tokio::time::advance(PROBATION).await;
        healer.serving(Instant::now());
        assert_eq!(healer.remedy(true, &down(Condition::Killed), Instant::now()), Remedy::Start);
    }

    #[tokio::test(start_paused = true)]
    async fn leaves_alone_what_starting_cannot_mend_and_stops_what_should_not_run() {
        let (healer, now) = (Healer::default(), Instant::now());
        assert_eq!(healer.remedy(true, &down(Condition::DataMissing), now), Remedy::Leave);
        assert_eq!(healer.remedy(true, &Health::Healthy, now), Remedy::Leave);
        let impaired = |condition| Health::Impaired(Problem::new(condition, "x"));
        assert_eq!(healer.remedy(true, &impaired(Condition::DiskFull), now), Remedy::Leave);
        assert_eq!(healer.remedy(true, &impaired(Condition::ReadOnly), now), Remedy::Start);
        assert_eq!(healer.remedy(false, &down(Condition::Killed), now), Remedy::Leave);
        assert_eq!(healer.remedy(false, &Health::Healthy, now), Remedy::Stop);
    }
}
