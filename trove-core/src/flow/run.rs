//! Runs one claimed operation, journaling each step, until it ends, waits, or its claim is lost.

use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    End, Engine, Next, StepCx,
    plan::{self, Decision, Position},
    registry::AnyFlow,
};
use crate::{
    error::{Error, Kind, Result},
    lifecycle::State,
    model::{Event, EventKind, OperationError, OperationStatus},
    store::{CancelMode, InstanceChange, JournalEntry, JournalRecord},
    time::{Timestamp, after},
};

/// The outcome of one try of a step.
enum AttemptOutcome {
    Step(Result<Next>),
    Lost(Error),
}

impl<C: Send + Sync + 'static> Engine<C> {
    pub(super) async fn run_steps(&self, entry: JournalEntry, nudge: &Notify) -> Result<()> {
        let mut flow = match self.0.registry.decode(&entry.kind, entry.state.clone()) {
            Ok(flow) => flow,
            Err(error) => return self.record_unreadable(&entry, &error).await,
        };
        let Some(step) = flow.step_number(&entry.step) else {
            let error = Error::unsupported(format!("{} has no step {:?}", entry.kind, entry.step));
            return self.record_unreadable(&entry, &error).await;
        };
        let mut cancel = entry.cancel;
        let mut position = Position {
            undoing: entry.undoing,
            step,
            // Time during which no service ran does not count.
            since: entry.step_since.max(self.0.started),
            attempt: entry.attempt,
            error: entry.error.clone(),
            cancelled: entry.undoing && entry.cancel == Some(CancelMode::Undo),
        };
        loop {
            if let Some(mode) = cancel.take() {
                let (next, decision) = plan::cancelled(position, flow.shape(), mode, self.0.clock.now());
                position = next;
                if let Decision::End(status) = decision {
                    return self.end(&entry, flow.as_ref(), &position, status, InstanceChange::default()).await;
                }
            }
            self.publish_step(&entry, flow.as_ref(), &position);
            let mut change = InstanceChange::default();
            let outcome = self.attempt(&entry, flow.as_mut(), &position, nudge, &mut cancel, &mut change).await;
            let outcome = match outcome {
                AttemptOutcome::Step(outcome) => outcome,
                AttemptOutcome::Lost(error) => return Err(error),
            };
            if let Err(error) = &outcome {
                self.report_failure(&entry, flow.as_ref(), &position, error);
            }
            let limits = flow.limits(position.step, position.undoing);
            let (next, decision) = plan::decide(position, flow.shape(), limits, outcome, self.0.clock.now());
            position = next;
            match decision {
                Decision::Continue => {
                    self.record(&entry, flow.as_ref(), &position, None, change).await?;
                    if self.0.shutdown.is_cancelled() {
                        return self
                            .record(&entry, flow.as_ref(), &position, Some(Duration::ZERO), InstanceChange::default())
                            .await;
                    }
                }
                Decision::Pause(pause) => {
                    let pause = if cancel.is_some() { Duration::ZERO } else { pause };
                    return self.record(&entry, flow.as_ref(), &position, Some(pause), change).await;
                }
                Decision::End(status) => return self.end(&entry, flow.as_ref(), &position, status, change).await,
            }
        }
    }

    /// Tries a step once, within its deadline, and renews the claim meanwhile.
    async fn attempt(
        &self,
        entry: &JournalEntry,
        flow: &mut dyn AnyFlow<C>,
        position: &Position,
        nudge: &Notify,
        cancel: &mut Option<CancelMode>,
        change: &mut InstanceChange,
    ) -> AttemptOutcome {
        let deadline = flow.limits(position.step, position.undoing).deadline;
        let stop = CancellationToken::new();
        let mut cx = StepCx {
            context: &*self.0.context,
            instance: entry.instance,
            operation: entry.id,
            epoch: entry.epoch,
            cancel: stop.clone(),
            change: InstanceChange::default(),
            events: self.0.events.clone(),
            clock: self.0.clock.clone(),
        };
        let outcome = {
            let step = async {
                if position.undoing {
                    flow.undo(position.step, &mut cx).await
                } else {
                    flow.run(position.step, &mut cx).await
                }
            };
            let limited = tokio::time::timeout(deadline, step);
            let lost = self.keep_claim(entry, nudge, cancel, &stop);
            tokio::select! {
                biased;
                outcome = limited => AttemptOutcome::Step(outcome.unwrap_or_else(|_| Err(Error::timeout(
                    format!("step timed out after {} s", deadline.as_secs()),
                )))),
                error = lost => AttemptOutcome::Lost(error),
            }
        };
        *change = cx.change;
        match outcome {
            // The step ended because it was cancelled: not a failure.
            AttemptOutcome::Step(Err(error)) if error.kind() == Kind::Cancelled && stop.is_cancelled() => {
                AttemptOutcome::Step(Ok(Next::Wait(Duration::ZERO)))
            }
            outcome => outcome,
        }
    }

    /// Renews the claim until it is lost. Cancels the step if the operation is cancelled.
    async fn keep_claim(
        &self,
        entry: &JournalEntry,
        nudge: &Notify,
        cancel: &mut Option<CancelMode>,
        stop: &CancellationToken,
    ) -> Error {
        let every = self.0.settings.lease / 3;
        let mut renewed = tokio::time::Instant::now();
        loop {
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = nudge.notified() => {}
                () = self.0.shutdown.cancelled(), if !stop.is_cancelled() => stop.cancel(),
            }
            let until = after(self.0.clock.now(), self.0.settings.lease);
            match self.0.journal.renew(entry.id, entry.epoch, until).await {
                Ok(found) => {
                    renewed = tokio::time::Instant::now();
                    if found.is_some() && *cancel != found {
                        *cancel = found;
                        stop.cancel();
                    }
                }
                Err(error) if error.kind() == Kind::Fenced => return error,
                Err(error) if renewed.elapsed() >= self.0.settings.lease => return error,
                Err(error) => tracing::warn!(operation = %entry.id, error = error.report(), "failed to renew a lease"),
            }
        }
    }

    async fn end(
        &self,
        entry: &JournalEntry,
        flow: &dyn AnyFlow<C>,
        position: &Position,
        status: OperationStatus,
        change: InstanceChange,
    ) -> Result<()> {
        let at = self.0.clock.now();
        let error = position.error.as_ref();
        // A superseded operation leaves the instance to its successor.
        let superseded = status == OperationStatus::Cancelled && !position.cancelled;
        let end = if superseded { InstanceChange::default() } else { flow.ended(End { status, error, at }) };
        let change = merge(change, end);
        self.write(entry, flow, position, status, None, at, change.clone()).await?;
        let kind = EventKind::Ended {
            operation: entry.id,
            operation_kind: entry.kind.clone(),
            status,
            error: position.error.clone(),
        };
        self.0.events.publish(Event::new(at, entry.instance, kind));
        Ok(())
    }

    /// Journals the end of a step, and releases the claim if there is a pause.
    async fn record(
        &self,
        entry: &JournalEntry,
        flow: &dyn AnyFlow<C>,
        position: &Position,
        pause: Option<Duration>,
        change: InstanceChange,
    ) -> Result<()> {
        let status = if position.undoing { OperationStatus::Undoing } else { OperationStatus::Running };
        self.write(entry, flow, position, status, pause, self.0.clock.now(), change).await
    }

    #[allow(clippy::too_many_arguments, reason = "all fields of one journal row")]
    async fn write(
        &self,
        entry: &JournalEntry,
        flow: &dyn AnyFlow<C>,
        position: &Position,
        status: OperationStatus,
        pause: Option<Duration>,
        at: Timestamp,
        change: InstanceChange,
    ) -> Result<()> {
        let held = pause.is_none() && !status.is_final();
        let record = JournalRecord {
            state: flow.state()?,
            status,
            undoing: position.undoing,
            step: flow.step_name(position.step).to_owned(),
            step_since: position.since,
            attempt: position.attempt,
            error: position.error.clone(),
            lease_until: held.then(|| after(at, self.0.settings.lease)),
            wake_at: after(at, pause.unwrap_or_default()),
            at,
            change,
        };
        self.0.journal.record(entry.id, entry.instance, entry.epoch, &record).await?;
        self.publish_change(entry, &record);
        Ok(())
    }

    async fn record_unreadable(&self, entry: &JournalEntry, error: &Error) -> Result<()> {
        tracing::error!(operation = %entry.id, kind = entry.kind, error = error.report(), "failed to decode an operation");
        let at = self.0.clock.now();
        let record = JournalRecord {
            state: entry.state.clone(),
            status: OperationStatus::Stuck,
            undoing: entry.undoing,
            step: entry.step.clone(),
            step_since: entry.step_since,
            attempt: entry.attempt,
            error: Some(OperationError::from(error)),
            lease_until: None,
            wake_at: at,
            at,
            change: InstanceChange::failed(State::Error, error.to_string(), at),
        };
        self.0.journal.record(entry.id, entry.instance, entry.epoch, &record).await
    }

    fn publish_step(&self, entry: &JournalEntry, flow: &dyn AnyFlow<C>, position: &Position) {
        let kind = EventKind::Step {
            operation: entry.id,
            operation_kind: entry.kind.clone(),
            step: flow.step_name(position.step).to_owned(),
            number: u32::try_from(position.step + 1).unwrap_or(u32::MAX),
            of: u32::try_from(flow.shape().steps).unwrap_or(u32::MAX),
            undo: position.undoing,
        };
        self.0.events.publish(Event::new(self.0.clock.now(), entry.instance, kind));
    }

    fn publish_change(&self, entry: &JournalEntry, record: &JournalRecord) {
        let kind = match record.change {
            InstanceChange { remove: true, .. } => EventKind::Deleted,
            InstanceChange { state: Some(state), .. } => EventKind::State { state },
            _ => return,
        };
        self.0.events.publish(Event::new(record.at, entry.instance, kind));
    }

    fn report_failure(&self, entry: &JournalEntry, flow: &dyn AnyFlow<C>, position: &Position, error: &Error) {
        let step = flow.step_name(position.step);
        tracing::warn!(operation = %entry.id, kind = entry.kind, step, error = error.report(), "step failed");
        let kind = EventKind::Failed { operation: entry.id, step: step.to_owned(), error: error.into() };
        self.0.events.publish(Event::new(self.0.clock.now(), entry.instance, kind));
    }
}

/// Merges the changes of the last step and of the end. The end takes precedence.
fn merge(step: InstanceChange, end: InstanceChange) -> InstanceChange {
    InstanceChange {
        state: end.state.or(step.state),
        endpoint: end.endpoint.or(step.endpoint),
        fault: end.fault.or(step.fault),
        assigned_settings: end.assigned_settings.or(step.assigned_settings),
        release: end.release.or(step.release),
        flavor: end.flavor.or(step.flavor),
        remove: end.remove || step.remove,
    }
}
