//! What the facts about a server amount to: one pure function.

use trove_core::{
    error::Error,
    model::{ByteSize, Condition, Disk, Health, Problem, mib},
};

use crate::docker::State;

/// What was found out at one moment.
#[derive(Debug)]
pub(crate) struct Observations<'a> {
    /// What the daemon says of the container; `None` where there is none.
    pub(crate) container: Result<Option<State>, &'a Error>,
    /// What the server said.
    pub(crate) outcome: ProbeOutcome,
    /// True where the server is young and never answered yet.
    pub(crate) coming_up: bool,
    /// True where the server has been there for longer than a start may take.
    pub(crate) overdue: bool,
    /// Whether the last thing asked for was a stop, where that could be told.
    pub(crate) stop_noted: Option<bool>,
    /// Whether the data directory is there, where that could be told.
    pub(crate) data: Option<bool>,
    /// How full the volume is.
    pub(crate) disk: Option<Disk>,
    /// How large the volume is meant to be.
    pub(crate) volume_size: ByteSize,
    /// True where the kernel killed a part of the server lately.
    pub(crate) killed_lately: bool,
}

/// What a server said, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeOutcome {
    Ready,
    ReadOnly,
    Starting,
    Unreachable,
}

impl ProbeOutcome {
    /// True where it answered the query.
    pub(crate) fn answered(self) -> bool {
        matches!(self, Self::Ready | Self::ReadOnly)
    }
}

/// The health that the facts amount to.
pub(crate) fn assess(facts: &Observations<'_>) -> Health {
    let state = match facts.container {
        Ok(state) => state,
        Err(error) => return Health::Unknown(Problem::new(Condition::RuntimeUnavailable, error.to_string())),
    };
    let gone = !matches!(state, Some(State::Running { .. } | State::Paused));
    if gone && facts.stop_noted == Some(true) {
        return Health::Stopped;
    }
    if facts.data == Some(false) {
        return down(Condition::DataMissing, "the data directory is missing");
    }
    let full = facts.disk.is_some_and(|disk| disk.free < least_free(facts.volume_size));
    match state {
        None if facts.stop_noted.is_none() => {
            let why = "there is no container, and the disk does not say whether the server was to be stopped";
            Health::Unknown(Problem::new(Condition::RuntimeUnavailable, why))
        }
        None => down(Condition::Removed, "the container of the server was removed"),
        Some(State::Created) => down(Condition::Exited, "the server was not started"),
        Some(State::Paused) => down(Condition::Paused, "the server is paused"),
        Some(State::Exited { code, out_of_memory }) => exited(code, out_of_memory || facts.killed_lately, full),
        Some(State::Running { .. }) => running(facts, full),
    }
}

/// Below this a volume counts as full: 64 MiB, or a hundredth of its size where that is more. A server needs room to
/// come to rest in order.
pub(crate) fn least_free(volume_size: ByteSize) -> ByteSize {
    mib(64).max(ByteSize::bytes(volume_size.as_bytes() / 100))
}

/// True where a volume has little room left, before that is shown as a problem.
pub(crate) fn nearly_full(disk: Option<Disk>, volume_size: ByteSize) -> bool {
    disk.is_some_and(|disk| {
        let most = volume_size.as_bytes() / 10 * 8;
        disk.free.as_bytes() < 2 * least_free(volume_size).as_bytes()
            || disk.used.is_some_and(|used| used.as_bytes() > most)
    })
}

fn exited(code: i64, out_of_memory: bool, full: bool) -> Health {
    if out_of_memory {
        down(Condition::OutOfMemory, "the server was killed by the kernel because its memory was used up")
    } else if full {
        down(Condition::DiskFull, format!("the server ended with exit code {code}; its volume is full"))
    } else if code == 137 {
        down(Condition::Killed, "the server was killed")
    } else {
        down(Condition::Exited, format!("the server ended with exit code {code}"))
    }
}

fn running(facts: &Observations<'_>, full: bool) -> Health {
    let out_of_memory = "the kernel killed a part of the server because its memory was used up";
    let used = facts.disk.and_then(|disk| disk.used);
    let outgrown = used.is_some_and(|used| used > facts.volume_size);
    match facts.outcome {
        // A start mends this, whatever else is wrong; and who is to delete something must be able to write.
        ProbeOutcome::ReadOnly => impaired(Condition::ReadOnly, "the server answers and lets nobody write"),
        ProbeOutcome::Ready if full => impaired(Condition::DiskFull, "the volume has no room left"),
        ProbeOutcome::Ready if outgrown => impaired(Condition::DiskFull, "the volume holds more than its size"),
        ProbeOutcome::Ready if facts.killed_lately => impaired(Condition::OutOfMemory, out_of_memory),
        ProbeOutcome::Ready => Health::Healthy,
        _ if facts.stop_noted == Some(true) => down(Condition::NotAnswering, "the server is being stopped"),
        _ if facts.killed_lately => impaired(Condition::OutOfMemory, out_of_memory),
        // A server says the same while it shuts down.
        ProbeOutcome::Starting if facts.overdue => {
            down(Condition::NotAnswering, "the server has not been ready for too long")
        }
        ProbeOutcome::Starting => Health::Starting,
        ProbeOutcome::Unreachable if facts.coming_up => Health::Starting,
        ProbeOutcome::Unreachable if full => {
            down(Condition::DiskFull, "the server does not answer; its volume is full")
        }
        ProbeOutcome::Unreachable => down(Condition::NotAnswering, "the server runs but does not answer"),
    }
}

fn down(condition: Condition, message: impl Into<String>) -> Health {
    Health::Down(Problem::new(condition, message))
}

fn impaired(condition: Condition, message: impl Into<String>) -> Health {
    Health::Impaired(Problem::new(condition, message))
}

#[cfg(test)]
mod tests {
    use trove_core::model::gib;

    use super::*;

    fn facts(container: Option<State>, outcome: ProbeOutcome) -> Observations<'static> {
        Observations {
            container: Ok(container),
            outcome,
            coming_up: false,
            overdue: false,
            stop_noted: Some(false),
            data: Some(true),
            disk: Some(Disk { used: None, free: gib(1) }),
            volume_size: gib(5),
            killed_lately: false,
        }
    }

    fn word(facts: &Observations<'_>) -> String {
        match assess(facts) {
            Health::Unknown(problem) => format!("unknown {:?}", problem.condition),
            Health::Impaired(problem) => format!("impaired {:?}", problem.condition),
            Health::Down(problem) => format!("down {:?}", problem.condition),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn every_condition_is_told() {
        let running = Some(State::Running { pid: 1 });
        let exit = |code, out_of_memory| Some(State::Exited { code, out_of_memory });
        let full = Some(Disk { used: None, free: mib(60) });
        let at_size = Some(Disk { used: Some(gib(5)), free: gib(1) });
        let outgrown = Some(Disk { used: Some(ByteSize::bytes(gib(5).as_bytes() + 1)), free: gib(1) });
        let away = Error::unavailable("the Docker daemon does not answer");
        let (answered, not_yet, silent) = (ProbeOutcome::Ready, ProbeOutcome::Starting, ProbeOutcome::Unreachable);
        let read_only = ProbeOutcome::ReadOnly;
        for (facts, expected) in [
            (facts(running, answered), "Healthy"),
            (facts(running, not_yet), "Starting"),
            (Observations { overdue: true, ..facts(running, answered) }, "Healthy"),
            (Observations { overdue: true, ..facts(running, not_yet) }, "down NotAnswering"),
            (facts(running, read_only), "impaired ReadOnly"),
            (Observations { disk: full, ..facts(running, read_only) }, "impaired ReadOnly"),
            (Observations { killed_lately: true, ..facts(running, read_only) }, "impaired ReadOnly"),
            (Observations { data: Some(false), ..facts(running, read_only) }, "down DataMissing"),
            (facts(running, silent), "down NotAnswering"),
            (Observations { coming_up: true, ..facts(running, silent) }, "Starting"),
            (Observations { disk: full, ..facts(running, answered) }, "impaired DiskFull"),
            (Observations { disk: full, ..facts(running, silent) }, "down DiskFull"),
            (Observations { disk: outgrown, ..facts(running, answered) }, "impaired DiskFull"),
            (Observations { disk: outgrown, ..facts(running, silent) }, "down NotAnswering"),
            (Observations { disk: at_size, ..facts(running, answered) }, "Healthy"),
            (Observations { disk: None, ..facts(running, answered) }, "Healthy"),
            (Observations { killed_lately: true, ..facts(running, answered) }, "impaired OutOfMemory"),
            (Observations { killed_lately: true, ..facts(running, not_yet) }, "impaired OutOfMemory"),
            (Observations { data: Some(false), ..facts(running, answered) }, "down DataMissing"),
            (Observations { data: None, ..facts(running, answered) }, "Healthy"),
            (Observations { stop_noted: Some(true), ..facts(running, answered) }, "Healthy"),
            (Observations { stop_noted: Some(true), ..facts(running, not_yet) }, "down NotAnswering"),
            (facts(Some(State::Paused), silent), "down Paused"),
            (Observations { stop_noted: Some(true), ..facts(Some(State::Paused), silent) }, "down Paused"),
            (facts(None, silent), "down Removed"),
            (Observations { stop_noted: Some(true), ..facts(None, silent) }, "Stopped"),
            (Observations { stop_noted: Some(true), ..facts(exit(0, false), silent) }, "Stopped"),
            (Observations { stop_noted: None, ..facts(None, silent) }, "unknown RuntimeUnavailable"),
            (Observations { stop_noted: None, ..facts(exit(1, false), silent) }, "down Exited"),
            (Observations { stop_noted: None, ..facts(running, answered) }, "Healthy"),
            (Observations { data: Some(false), ..facts(None, silent) }, "down DataMissing"),
            (facts(Some(State::Created), silent), "down Exited"),
            (facts(exit(0, false), silent), "down Exited"),
            (facts(exit(1, false), silent), "down Exited"),
            (facts(exit(137, false), silent), "down Killed"),
            (facts(exit(137, true), silent), "down OutOfMemory"),
            (Observations { disk: full, ..facts(exit(1, false), silent) }, "down DiskFull"),
            (Observations { container: Err(&away), ..facts(None, answered) }, "unknown RuntimeUnavailable"),
        ] {
            assert_eq!(word(&facts), expected, "{facts:?}");
        }
    }

    #[test]
    fn a_volume_is_nearly_full_before_it_is() {
        let of = |used, free| nearly_full(Some(Disk { used, free }), gib(5));
        assert!(!of(Some(gib(4)), gib(1)) && !of(None, mib(128)) && !nearly_full(None, gib(5)));
        assert!(of(Some(ByteSize::bytes(gib(4).as_bytes() + 1)), gib(1)) && of(None, mib(127)));
    }

    #[test]
    fn a_larger_volume_has_a_larger_reserve() {
        assert_eq!(least_free(gib(1)), mib(64));
        assert_eq!(least_free(gib(100)), gib(1));
    }
}
