//! Decides how an operation continues after a step. Pure functions, so that tests cover every case.
//!
//! A decision depends only on the kind of an error and on whether it is
//! [transient](Error::is_transient). Its effect does not matter, because steps and undos are
//! idempotent, and undo starts at the step that failed.

use std::time::Duration;

use super::{Limits, Next};
use crate::{
    error::{Error, Kind, Result},
    model::{OperationError, OperationStatus},
    store::CancelMode,
    time::{Timestamp, elapsed},
};

const MIN_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// The position of an operation in its flow.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Position {
    pub(super) undoing: bool,
    pub(super) step: usize,
    pub(super) since: Timestamp,
    pub(super) attempt: u32,
    pub(super) error: Option<OperationError>,
    pub(super) cancelled: bool,
}

/// The next action of the engine.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Decision {
    Continue,
    Pause(Duration),
    End(OperationStatus),
}

/// The properties of a flow that decisions depend on.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) steps: usize,
    pub(super) reversible: bool,
}

impl Position {
    fn at(self, step: usize, now: Timestamp) -> Self {
        Self { step, since: now, attempt: 0, ..self }
    }

    fn into_undo(self, error: OperationError, now: Timestamp) -> Self {
        let step = self.step;
        Self { undoing: true, error: Some(error), ..self }.at(step, now)
    }
}

/// Decides how an operation continues after it was cancelled.
pub(super) fn cancelled(position: Position, shape: Shape, cancel: CancelMode, now: Timestamp) -> (Position, Decision) {
    match cancel {
        CancelMode::Supersede => (Position { cancelled: false, ..position }, Decision::End(OperationStatus::Cancelled)),
        CancelMode::Undo if shape.reversible && !position.undoing => {
            let error = OperationError::new(Kind::Cancelled, "the operation was cancelled");
            let position = position.into_undo(error, now);
            (Position { cancelled: true, ..position }, Decision::Continue)
        }
        CancelMode::Undo => (position, Decision::Continue),
    }
}

/// Decides how an operation continues after the outcome of a step.
pub(super) fn decide(
    position: Position,
    shape: Shape,
    limits: Limits,
    outcome: Result<Next>,
    now: Timestamp,
) -> (Position, Decision) {
    let timed_out = elapsed(position.since, now) >= limits.total_timeout;
    match outcome {
        Ok(Next::Done) => done(position, shape, now),
        Ok(Next::Wait(pause)) if !timed_out => (position, Decision::Pause(pause.min(MAX_BACKOFF))),
        Ok(Next::Wait(_)) => {
            let error = Error::timeout(format!("step timed out after {} s", limits.total_timeout.as_secs()));
            failed(position, shape, limits, &error, now)
        }
        Err(error) => {
            // An undo is retried after any error, because giving up leaks resources, and after a transient error
            // without a limit of tries.
            let permanent = error.kind() == Kind::Unsupported;
            let must_succeed = position.undoing || !shape.reversible;
            let retry = (error.is_transient() || (must_succeed && !permanent))
                && (position.attempt + 1 < limits.tries || (position.undoing && error.is_transient()))
                && !timed_out;
            if retry {
                let pause = pause(position.attempt);
                let error = if position.undoing { position.error.clone() } else { Some(OperationError::from(&error)) };
                (Position { attempt: position.attempt + 1, error, ..position }, Decision::Pause(pause))
            } else {
                failed(position, shape, limits, &error, now)
            }
        }
    }
}

fn done(position: Position, shape: Shape, now: Timestamp) -> (Position, Decision) {
    if position.undoing {
        match position.step.checked_sub(1) {
            Some(before) => (position.at(before, now), Decision::Continue),
            None => {
                let status = if position.cancelled { OperationStatus::Cancelled } else { OperationStatus::Failed };
                (position, Decision::End(status))
            }
        }
    } else {
        let next = position.step + 1;
        let position = Position { error: None, ..position };
        if next < shape.steps {
            (position.at(next, now), Decision::Continue)
        } else {
            (position, Decision::End(OperationStatus::Succeeded))
        }
    }
}

fn failed(position: Position, shape: Shape, limits: Limits, error: &Error, now: Timestamp) -> (Position, Decision) {
    if limits.optional {
        tracing::warn!(error = error.report(), "the failure of an optional step is ignored");
        done(position, shape, now)
    } else if position.undoing || !shape.reversible {
        let error = match &position.error {
            Some(OperationError { kind, message }) if position.undoing => {
                OperationError::new(*kind, format!("{message}; undo failed: {error}"))
            }
            _ => OperationError::from(error),
        };
        (Position { error: Some(error), ..position }, Decision::End(OperationStatus::Stuck))
    } else {
        (position.into_undo(OperationError::from(error), now), Decision::Continue)
    }
}

fn pause(attempt: u32) -> Duration {
    (MIN_BACKOFF * 2u32.saturating_pow(attempt.min(8))).min(MAX_BACKOFF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHAPE: Shape = Shape { steps: 3, reversible: true };
    const ONE_WAY: Shape = Shape { steps: 3, reversible: false };

    fn at(step: usize, undoing: bool) -> Position {
        Position { undoing, step, since: Timestamp::UNIX_EPOCH, attempt: 0, error: None, cancelled: false }
    }

    fn after(position: Position, shape: Shape, outcome: Result<Next>) -> (Position, Decision) {
        decide(position, shape, Limits::default(), outcome, Timestamp::UNIX_EPOCH)
    }

    fn after_total_timeout() -> Timestamp {
        crate::time::after(Timestamp::UNIX_EPOCH, Limits::default().total_timeout)
    }

    #[test]
    fn steps_run_in_order_and_the_last_one_ends_the_operation() {
        assert_eq!(after(at(0, false), SHAPE, Ok(Next::Done)), (at(1, false), Decision::Continue));
        assert_eq!(after(at(2, false), SHAPE, Ok(Next::Done)).1, Decision::End(OperationStatus::Succeeded));
        assert_eq!(after(at(2, true), SHAPE, Ok(Next::Done)), (at(1, true), Decision::Continue));
        assert_eq!(after(at(0, true), SHAPE, Ok(Next::Done)).1, Decision::End(OperationStatus::Failed));
    }

    #[test]
    fn undo_starts_at_the_step_that_failed() {
        let (position, decision) = after(at(1, false), SHAPE, Err(Error::invalid("bad")));
        assert_eq!((position.step, position.undoing, decision), (1, true, Decision::Continue));
        assert_eq!(position.error, Some(OperationError::new(Kind::Invalid, "bad")));
    }

    #[test]
    fn irreversible_steps_and_undos_are_retried_until_stuck() {
        let (position, decision) = after(at(1, false), ONE_WAY, Err(Error::invalid("bad")));
        assert_eq!((position.attempt, decision), (1, Decision::Pause(MIN_BACKOFF)));
        let last = Position { attempt: Limits::default().tries - 1, ..at(1, true) };
        assert_eq!(after(last.clone(), SHAPE, Err(Error::invalid("bad"))).1, Decision::End(OperationStatus::Stuck));
        let transient = Err(Error::unavailable("away"));
        assert!(matches!(after(last.clone(), SHAPE, transient).1, Decision::Pause(_)), "an undo survives an outage");
        let late = after_total_timeout();
        let decided = decide(last, SHAPE, Limits::default(), Err(Error::unavailable("away")), late);
        assert_eq!(decided.1, Decision::End(OperationStatus::Stuck));
    }

    #[test]
    fn cancelling_undoes_or_ends_the_operation() {
        let now = Timestamp::UNIX_EPOCH;
        let (position, decision) = cancelled(at(1, false), SHAPE, CancelMode::Undo, now);
        assert!(position.undoing && position.cancelled && decision == Decision::Continue);
        assert_eq!(
            after(Position { step: 0, ..position }, SHAPE, Ok(Next::Done)).1,
            Decision::End(OperationStatus::Cancelled)
        );
        assert_eq!(
            cancelled(at(1, false), SHAPE, CancelMode::Supersede, now).1,
            Decision::End(OperationStatus::Cancelled)
        );
        assert_eq!(cancelled(at(1, false), ONE_WAY, CancelMode::Undo, now), (at(1, false), Decision::Continue));
    }

    #[test]
    fn the_operation_goes_on_after_the_failure_of_an_optional_step() {
        let limits = Limits { total_timeout: Duration::from_secs(15), optional: true, ..Limits::default() };
        let later = crate::time::after(Timestamp::UNIX_EPOCH, limits.total_timeout);
        let refused = || Err(Error::unsupported("refused"));
        for outcome in [refused(), Err(Error::invalid("bad")), Err(Error::timeout("slow")), Ok(Next::Wait(MAX_BACKOFF))]
        {
            let (position, decision) = decide(at(0, false), ONE_WAY, limits, outcome, later);
            assert_eq!((position.step, position.error, decision), (1, None, Decision::Continue));
        }
        let first = OperationError::new(Kind::Invalid, "bad");
        let undoing = Position { error: Some(first.clone()), ..at(1, true) };
        let (position, decision) = decide(undoing, SHAPE, limits, refused(), Timestamp::UNIX_EPOCH);
        assert_eq!((position.step, position.error, decision), (0, Some(first), Decision::Continue));
    }

    proptest! {
        /// Any sequence of outcomes ends the operation within a bounded number of tries and a
        /// bounded time.
        #[test]
        fn every_operation_ends(outcomes in prop::collection::vec(0u8..5, 400), reversible: bool) {
            let shape = Shape { steps: 3, reversible };
            let mut position = at(0, false);
            let mut now = Timestamp::UNIX_EPOCH;
            let mut ended = false;
            for outcome in outcomes {
                let outcome = match outcome {
                    0 => Ok(Next::Done),
                    1 => Ok(Next::Wait(Duration::from_secs(30))),
                    2 => Err(Error::unavailable("later")),
                    _ => Err(Error::internal("broken")),
                };
                let (next, decision) = decide(position, shape, Limits::default(), outcome, now);
                position = next;
                match decision {
                    Decision::Continue => {}
                    Decision::Pause(pause) => {
                        prop_assert!(pause <= MAX_BACKOFF);
                        now = crate::time::after(now, pause);
                    }
                    Decision::End(status) => {
                        prop_assert!(status.is_final());
                        ended = true;
                        break;
                    }
                }
            }
            prop_assert!(ended);
        }
    }
}
