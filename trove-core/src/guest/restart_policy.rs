//! Decides when the agent starts or stops its server by itself. Pure, so that tests cover every case.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::{Condition, Health, Problem};

const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// How long a server must be healthy after the last action until the back-off is reset.
const PROBATION: Duration = Duration::from_secs(60);

/// An action on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RestartAction {
    None,
    Start,
    Stop,
}

/// Counts restarts and backs off exponentially between them.
#[derive(Debug, Default)]
pub(super) struct RestartPolicy {
    actions: u32,
    last_action: Option<Instant>,
}

impl RestartPolicy {
    /// Returns the action on a server of this health that should or should not run.
    pub(super) fn action(&self, should_run: bool, health: &Health, now: Instant) -> RestartAction {
        match health {
            Health::Down(problem) if should_run && may_start(problem.condition) && now >= self.next_action(now) => {
                RestartAction::Start
            }
            // Starting a server also allows writes, which an agent that crashed may not have done.
            Health::Impaired(Problem { condition: Condition::ReadOnly, .. })
                if should_run && now >= self.next_action(now) =>
            {
                RestartAction::Start
            }
            Health::Healthy | Health::Impaired(_) | Health::Starting if !should_run && now >= self.next_action(now) => {
                RestartAction::Stop
            }
            Health::Down(_)
            | Health::Healthy
            | Health::Impaired(_)
            | Health::Starting
            | Health::Stopped
            | Health::Unknown(_) => RestartAction::None,
        }
    }

    /// Returns the earliest time of the next action.
    fn next_action(&self, now: Instant) -> Instant {
        match (self.last_action, self.actions) {
            (None, _) | (_, 0) => now,
            (Some(last), actions) => last + (Duration::from_secs(1) * 2u32.pow(actions.min(7) - 1)).min(MAX_BACKOFF),
        }
    }

    /// Records that an action is taken.
    pub(super) fn record_action(&mut self, now: Instant) {
        self.actions = self.actions.saturating_add(1);
        self.last_action = Some(now);
    }

    /// Records that the server is healthy.
    pub(super) fn record_healthy(&mut self, now: Instant) {
        if self.last_action.is_some_and(|last| now.duration_since(last) >= PROBATION) {
            *self = Self::default();
        }
    }
}

/// Returns true if restarting the server loses no data and may help.
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
    async fn restarts_immediately_and_then_backs_off_until_the_server_was_healthy_for_the_probation_period() {
        let mut policy = RestartPolicy::default();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let before = Instant::now();
            while policy.action(true, &down(Condition::Killed), Instant::now()) != RestartAction::Start {
                tokio::time::advance(Duration::from_secs(1)).await;
            }
            pauses.push(before.elapsed().as_secs());
            policy.record_action(Instant::now());
            policy.record_healthy(Instant::now());
        }
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        tokio::time::advance(PROBATION).await;
        policy.record_healthy(Instant::now());
        assert_eq!(policy.action(true, &down(Condition::Killed), Instant::now()), RestartAction::Start);
    }

    #[tokio::test(start_paused = true)]
    async fn conditions_that_a_restart_cannot_fix_are_left_alone_and_unwanted_servers_are_stopped() {
        let (policy, now) = (RestartPolicy::default(), Instant::now());
        assert_eq!(policy.action(true, &down(Condition::DataMissing), now), RestartAction::None);
        assert_eq!(policy.action(true, &Health::Healthy, now), RestartAction::None);
        let impaired = |condition| Health::Impaired(Problem::new(condition, "x"));
        assert_eq!(policy.action(true, &impaired(Condition::DiskFull), now), RestartAction::None);
        assert_eq!(policy.action(true, &impaired(Condition::ReadOnly), now), RestartAction::Start);
        assert_eq!(policy.action(false, &down(Condition::Killed), now), RestartAction::None);
        assert_eq!(policy.action(false, &Health::Healthy, now), RestartAction::Stop);
    }
}
