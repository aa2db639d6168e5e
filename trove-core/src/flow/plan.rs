//! What follows from the outcome of a step: pure, so that every case is in a table.

use std::time::Duration;

use super::{Limits, Next};
use crate::{
    error::{Error, Kind, Result},
    model::{OperationError, OperationStatus},
    store::CancelMode,
    time::{Timestamp, elapsed},
};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Where an operation stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Position {
    pub(super) undoing: bool,
    pub(super) step: usize,
    pub(super) since: Timestamp,
    pub(super) attempt: u32,
    pub(super) error: Option<OperationError>,
    pub(super) cancelled: bool,
}

/// What to do from there.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Then {
    Continue,
    Pause(Duration),
    End(OperationStatus),
}

/// The shape of a flow, as far as decisions need it.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) steps: usize,
    pub(super) reversible: bool,
}

impl Position {
    fn at(self, step: usize, now: Timestamp) -> Self {
        Self { step, since: now, attempt: 0, ..self }
    }

    fn back(self, error: OperationError, now: Timestamp) -> Self {
        let step = self.step;
        Self { undoing: true, error: Some(error), ..self }.at(step, now)
    }
}

/// Where an operation stands, and what to do, after it was cancelled.
pub(super) fn cancelled(position: Position, shape: Shape, cancel: CancelMode, now: Timestamp) -> (Position, Then) {
    match cancel {
        CancelMode::Supersede => (Position { cancelled: false, ..position }, Then::End(OperationStatus::Cancelled)),
        CancelMode::Undo if shape.reversible && !position.undoing => {
            let error = OperationError::new(Kind::Cancelled, "the operation was cancelled");
            let position = position.back(error, now);
            (Position { cancelled: true, ..position }, Then::Continue)
        }
        CancelMode::Undo => (position, Then::Continue),
    }
}

/// Where an operation stands, and what to do, after its step ended so.
pub(super) fn decide(
    position: Position,
    shape: Shape,
    limits: Limits,
    outcome: Result<Next>,
    now: Timestamp,
) -> (Position, Then) {
    let out_of_patience = elapsed(position.since, now) >= limits.patience;
    match outcome {
        Ok(Next::Done) => done(position, shape, now),
        Ok(Next::Wait(pause)) if !out_of_patience => (position, Then::Pause(pause.min(LONGEST_PAUSE))),
        Ok(Next::Wait(_)) => {
            let error = Error::timeout(format!("a step did not end within {} s", limits.patience.as_secs()));
            failed(position, shape, &error, now)
        }
        Err(error) => {
            // An undo is tried again whatever it says: giving up leaves something behind. What is only away for a while
            // is waited for.
            let hopeless = error.kind() == Kind::Unsupported;
            let needed = position.undoing || !shape.reversible;
            let again = (error.is_transient() || (needed && !hopeless))
                && (position.attempt + 1 < limits.tries || (position.undoing && error.is_transient()))
                && !out_of_patience;
            if again {
                let pause = pause(position.attempt);
                let error = if position.undoing { position.error.clone() } else { Some(OperationError::from(&error)) };
                (Position { attempt: position.attempt + 1, error, ..position }, Then::Pause(pause))
            } else {
                failed(position, shape, &error, now)
            }
        }
    }
}

fn done(position: Position, shape: Shape, now: Timestamp) -> (Position, Then) {
    if position.undoing {
        match position.step.checked_sub(1) {
            Some(before) => (position.at(before, now), Then::Continue),
            None => {
                let status = if position.cancelled { OperationStatus::Cancelled } else { OperationStatus::Failed };
                (position, Then::End(status))
            }
        }
    } else {
        let next = position.step + 1;
        let position = Position { error: None, ..position };
        if next < shape.steps {
            (position.at(next, now), Then::Continue)
        } else {
            (position, Then::End(OperationStatus::Succeeded))
        }
    }
}

fn failed(position: Position, shape: Shape, error: &Error, now: Timestamp) -> (Position, Then) {
    if position.undoing || !shape.reversible {
        let error = match &position.error {
            Some(OperationError { kind, message }) if position.undoing => {
                OperationError::new(*kind, format!("{message}; it could not be taken back: {error}"))
            }
            _ => OperationError::from(error),
        };
        (Position { error: Some(error), ..position }, Then::End(OperationStatus::Stuck))
    } else {
        (position.back(OperationError::from(error), now), Then::Continue)
    }
}

fn pause(attempt: u32) -> Duration {
    (FIRST_PAUSE * 2u32.saturating_pow(attempt.min(8))).min(LONGEST_PAUSE)
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

    fn after(position: Position, shape: Shape, outcome: Result<Next>) -> (Position, Then) {
        decide(position, shape, Limits::default(), outcome, Timestamp::UNIX_EPOCH)
    }

    fn after_all_patience() -> Timestamp {
        crate::time::after(Timestamp::UNIX_EPOCH, Limits::default().patience)
    }

    #[test]
    fn steps_follow_each_other_and_the_last_ends_it() {
        assert_eq!(after(at(0, false), SHAPE, Ok(Next::Done)), (at(1, false), Then::Continue));
        assert_eq!(after(at(2, false), SHAPE, Ok(Next::Done)).1, Then::End(OperationStatus::Succeeded));
        assert_eq!(after(at(2, true), SHAPE, Ok(Next::Done)), (at(1, true), Then::Continue));
        assert_eq!(after(at(0, true), SHAPE, Ok(Next::Done)).1, Then::End(OperationStatus::Failed));
    }

    #[test]
    fn undo_begins_at_the_step_that_failed() {
        let (position, then) = after(at(1, false), SHAPE, Err(Error::invalid("no")));
        assert_eq!((position.step, position.undoing, then), (1, true, Then::Continue));
        assert_eq!(position.error, Some(OperationError::new(Kind::Invalid, "no")));
    }

    #[test]
    fn what_has_no_way_back_is_tried_again_and_then_stuck() {
        let (position, then) = after(at(1, false), ONE_WAY, Err(Error::invalid("no")));
        assert_eq!((position.attempt, then), (1, Then::Pause(FIRST_PAUSE)));
        let last = Position { attempt: Limits::default().tries - 1, ..at(1, true) };
        assert_eq!(after(last.clone(), SHAPE, Err(Error::invalid("no"))).1, Then::End(OperationStatus::Stuck));
        let away = Err(Error::unavailable("away"));
        assert!(matches!(after(last.clone(), SHAPE, away).1, Then::Pause(_)), "it outlives an outage");
        let late = after_all_patience();
        let decided = decide(last, SHAPE, Limits::default(), Err(Error::unavailable("away")), late);
        assert_eq!(decided.1, Then::End(OperationStatus::Stuck));
    }

    #[test]
    fn cancelling_takes_back_or_ends() {
        let now = Timestamp::UNIX_EPOCH;
        let (position, then) = cancelled(at(1, false), SHAPE, CancelMode::Undo, now);
        assert!(position.undoing && position.cancelled && then == Then::Continue);
        assert_eq!(
            after(Position { step: 0, ..position }, SHAPE, Ok(Next::Done)).1,
            Then::End(OperationStatus::Cancelled)
        );
        assert_eq!(cancelled(at(1, false), SHAPE, CancelMode::Supersede, now).1, Then::End(OperationStatus::Cancelled));
        assert_eq!(cancelled(at(1, false), ONE_WAY, CancelMode::Undo, now), (at(1, false), Then::Continue));
    }

    proptest! {
        /// Whatever a step answers, an operation ends within a bounded number of tries and of time.
        #[test]
        fn every_operation_ends(answers in prop::collection::vec(0u8..4, 400), reversible: bool) {
            let shape = Shape { steps: 3, reversible };
            let mut position = at(0, false);
            let mut now = Timestamp::UNIX_EPOCH;
            let mut ended = false;
            for answer in answers {
                let outcome = match answer {
                    0 => Ok(Next::Done),
                    1 => Ok(Next::Wait(Duration::from_secs(30))),
                    2 => Err(Error::unavailable("later")),
                    _ => Err(Error::internal("broken")),
                };
                let (next, then) = decide(position, shape, Limits::default(), outcome, now);
                position = next;
                match then {
                    Then::Continue => {}
                    Then::Pause(pause) => {
                        prop_assert!(pause <= LONGEST_PAUSE);
                        now = crate::time::after(now, pause);
                    }
                    Then::End(status) => {
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
