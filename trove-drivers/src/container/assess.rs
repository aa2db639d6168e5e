//! Assesses the health of a server from what was observed. Pure.

use trove_core::{
    error::Error,
    model::{ByteSize, Condition, Disk, Health, Problem, mib},
};

use crate::docker::RunState;

/// A snapshot of the observations of a server.
#[derive(Debug)]
pub(crate) struct Observations<'a> {
    /// The state of the container according to the daemon; `None` if there is no container.
    pub(crate) container: Result<Option<RunState>, &'a Error>,
    /// The outcome of the readiness probe.
    pub(crate) outcome: ProbeOutcome,
    /// True if the server was started recently and has not answered yet.
    pub(crate) starting: bool,
    /// True if the server has been running for longer than a start may take.
    pub(crate) overdue: bool,
    /// Whether a stop was the last request, if known.
    pub(crate) stop_requested: Option<bool>,
    /// Whether the data directory exists, if known.
    pub(crate) data: Option<bool>,
    /// The usage of the volume.
    pub(crate) disk: Option<Disk>,
    /// The nominal size of the volume.
    pub(crate) volume_size: ByteSize,
    /// True if the kernel recently killed a process of the server because of memory.
    pub(crate) killed_recently: bool,
}

/// The outcome of a readiness probe, without its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeOutcome {
    Ready,
    ReadOnly,
    Starting,
    Unreachable,
}

impl ProbeOutcome {
    /// Returns true if the server answered the query.
    pub(crate) fn answered(self) -> bool {
        matches!(self, Self::Ready | Self::ReadOnly)
    }
}

/// Returns the health that the observations amount to.
pub(crate) fn assess(facts: &Observations<'_>) -> Health {
    let state = match facts.container {
        Ok(state) => state,
        Err(error) => return Health::Unknown(Problem::new(Condition::RuntimeUnavailable, error.to_string())),
    };
    let gone = !matches!(state, Some(RunState::Running { .. } | RunState::Paused));
    if gone && facts.stop_requested == Some(true) {
        return Health::Stopped;
    }
    if facts.data == Some(false) {
        return down(Condition::DataMissing, "the data directory is missing");
    }
    let full = facts.disk.is_some_and(|disk| disk.free < least_free(facts.volume_size));
    match state {
        None if facts.stop_requested.is_none() => {
            let why = "there is no container, and it is unknown whether the server should be stopped";
            Health::Unknown(Problem::new(Condition::RuntimeUnavailable, why))
        }
        None => down(Condition::Removed, "the container of the server was removed"),
        Some(RunState::Created) => down(Condition::Exited, "the server was not started"),
        Some(RunState::Paused) => down(Condition::Paused, "the server is paused"),
        Some(RunState::Exited { code, out_of_memory }) => exited(code, out_of_memory || facts.killed_recently, full),
        Some(RunState::Running { .. }) => running(facts, full),
    }
}

/// Returns the free space below which a volume counts as full: 64 MiB or 1% of its size, whichever
/// is larger. A server needs some space to shut down cleanly.
pub(crate) fn least_free(volume_size: ByteSize) -> ByteSize {
    mib(64).max(ByteSize::bytes(volume_size.as_bytes() / 100))
}

/// Returns true if a volume is running out of space, before that is reported as a problem.
pub(crate) fn nearly_full(disk: Option<Disk>, volume_size: ByteSize) -> bool {
    disk.is_some_and(|disk| {
        let most = volume_size.as_bytes() / 10 * 8;
        disk.free.as_bytes() < 2 * least_free(volume_size).as_bytes()
            || disk.used.is_some_and(|used| used.as_bytes() > most)
    })
}

fn exited(code: i64, out_of_memory: bool, full: bool) -> Health {
    if out_of_memory {
        down(Condition::OutOfMemory, "the server was killed by the kernel because it ran out of memory")
    } else if full {
        down(Condition::DiskFull, format!("the server exited with code {code}; its volume is full"))
    } else if code == 137 {
        down(Condition::Killed, "the server was killed")
    } else {
        down(Condition::Exited, format!("the server exited with code {code}"))
    }
}

fn running(facts: &Observations<'_>, full: bool) -> Health {
    let out_of_memory = "the kernel killed a process of the server because it ran out of memory";
    let used = facts.disk.and_then(|disk| disk.used);
    let oversized = used.is_some_and(|used| used > facts.volume_size);
    match facts.outcome {
        // A start resolves this, whatever else is wrong; and deleting data to free space requires
        // write access.
        ProbeOutcome::ReadOnly => impaired(Condition::ReadOnly, "the server answers but is read-only"),
        ProbeOutcome::Ready if full => impaired(Condition::DiskFull, "the volume is full"),
        ProbeOutcome::Ready if oversized => impaired(Condition::DiskFull, "the volume holds more than its size"),
        ProbeOutcome::Ready if facts.killed_recently => impaired(Condition::OutOfMemory, out_of_memory),
        ProbeOutcome::Ready => Health::Healthy,
        _ if facts.stop_requested == Some(true) => down(Condition::NotAnswering, "the server is being stopped"),
        _ if facts.killed_recently => impaired(Condition::OutOfMemory, out_of_memory),
        // A server reports the same while it shuts down.
        ProbeOutcome::Starting if facts.overdue => {
            down(Condition::NotAnswering, "the server has not been ready for too long")
        }
        ProbeOutcome::Starting => Health::Starting,
        ProbeOutcome::Unreachable if facts.starting => Health::Starting,
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

    fn facts(container: Option<RunState>, outcome: ProbeOutcome) -> Observations<'static> {
        Observations {
            container: Ok(container),
            outcome,
            starting: false,
            overdue: false,
            stop_requested: Some(false),
            data: Some(true),
            disk: Some(Disk { used: None, free: gib(1) }),
            volume_size: gib(5),
            killed_recently: false,
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
    fn every_condition_is_assessed() {
        let running = Some(RunState::Running { pid: 1 });
        let exit = |code, out_of_memory| Some(RunState::Exited { code, out_of_memory });
        let full = Some(Disk { used: None, free: mib(60) });
        let at_size = Some(Disk { used: Some(gib(5)), free: gib(1) });
        let oversized = Some(Disk { used: Some(ByteSize::bytes(gib(5).as_bytes() + 1)), free: gib(1) });
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
            (Observations { killed_recently: true, ..facts(running, read_only) }, "impaired ReadOnly"),
            (Observations { data: Some(false), ..facts(running, read_only) }, "down DataMissing"),
            (facts(running, silent), "down NotAnswering"),
            (Observations { starting: true, ..facts(running, silent) }, "Starting"),
            (Observations { disk: full, ..facts(running, answered) }, "impaired DiskFull"),
            (Observations { disk: full, ..facts(running, silent) }, "down DiskFull"),
            (Observations { disk: oversized, ..facts(running, answered) }, "impaired DiskFull"),
            (Observations { disk: oversized, ..facts(running, silent) }, "down NotAnswering"),
            (Observations { disk: at_size, ..facts(running, answered) }, "Healthy"),
            (Observations { disk: None, ..facts(running, answered) }, "Healthy"),
            (Observations { killed_recently: true, ..facts(running, answered) }, "impaired OutOfMemory"),
            (Observations { killed_recently: true, ..facts(running, not_yet) }, "impaired OutOfMemory"),
            (Observations { data: Some(false), ..facts(running, answered) }, "down DataMissing"),
            (Observations { data: None, ..facts(running, answered) }, "Healthy"),
            (Observations { stop_requested: Some(true), ..facts(running, answered) }, "Healthy"),
            (Observations { stop_requested: Some(true), ..facts(running, not_yet) }, "down NotAnswering"),
            (facts(Some(RunState::Paused), silent), "down Paused"),
            (Observations { stop_requested: Some(true), ..facts(Some(RunState::Paused), silent) }, "down Paused"),
            (facts(None, silent), "down Removed"),
            (Observations { stop_requested: Some(true), ..facts(None, silent) }, "Stopped"),
            (Observations { stop_requested: Some(true), ..facts(exit(0, false), silent) }, "Stopped"),
            (Observations { stop_requested: None, ..facts(None, silent) }, "unknown RuntimeUnavailable"),
            (Observations { stop_requested: None, ..facts(exit(1, false), silent) }, "down Exited"),
            (Observations { stop_requested: None, ..facts(running, answered) }, "Healthy"),
            (Observations { data: Some(false), ..facts(None, silent) }, "down DataMissing"),
            (facts(Some(RunState::Created), silent), "down Exited"),
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
    fn volumes_are_nearly_full_before_they_are_full() {
        let of = |used, free| nearly_full(Some(Disk { used, free }), gib(5));
        assert!(!of(Some(gib(4)), gib(1)) && !of(None, mib(128)) && !nearly_full(None, gib(5)));
        assert!(of(Some(ByteSize::bytes(gib(4).as_bytes() + 1)), gib(1)) && of(None, mib(127)));
    }

    #[test]
    fn minimum_free_space_grows_with_the_volume() {
        assert_eq!(least_free(gib(1)), mib(64));
        assert_eq!(least_free(gib(100)), gib(1));
    }
}
