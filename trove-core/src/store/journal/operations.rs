//! Requests for operations: begin, cancel, resume, abandon, and look up.

use super::{InsertOutcome, NewOperation};
use crate::{
    error::{Error, Result},
    id::{InstanceId, OperationId},
    lifecycle::State,
    model::Operation,
    store::{
        Store,
        db::{Tx, Value},
        rows,
    },
    time::Timestamp,
};

impl Store {
    /// Moves an instance from one state to another and writes the first journal row of an
    /// operation, in one transaction.
    ///
    /// With `supersede`, running operations of another kind end at their current step before this
    /// one begins.
    pub(crate) async fn begin_operation(
        &self,
        instance: InstanceId,
        (from, to): (State, State),
        operation: &NewOperation,
        supersede: bool,
        at: Timestamp,
    ) -> Result<InsertOutcome> {
        let mut tx = self.db().begin().await?;
        let id = Value::from(instance.to_string());
        // Every transaction locks operations before their instance; another order could deadlock.
        if supersede {
            tx.execute(
                "UPDATE operations SET cancel = 'supersede', wake_at = 0
                WHERE instance = $1 AND finished = 0 AND kind <> $2",
                &[id.clone(), operation.kind.into()],
            )
            .await?;
        }
        let states = [
            id.clone(),
            rows::word(&from)?.into(),
            rows::word(&to)?.into(),
            rows::micros(at).into(),
            operation.configuration.map(|id| id.to_string()).into(),
            operation.expected_epoch.map(rows::to_int).into(),
        ];
        let moved = tx
            .execute(
                "UPDATE instances SET state = $3, updated_at = $4, configuration = COALESCE($5, configuration)
                WHERE id = $1 AND state = $2 AND epoch = COALESCE($6, epoch)",
                &states,
            )
            .await?;
        if moved == 0 {
            return Ok(InsertOutcome::StateChanged);
        }
        let running = tx
            .row(
                "SELECT id, kind FROM operations WHERE instance = $1 AND finished = 0 ORDER BY sequence DESC LIMIT 1",
                &[id],
            )
            .await?;
        if let Some(running) = running {
            if running.text("kind")? == operation.kind {
                return Ok(InsertOutcome::Existing(rows::id(&running.text("id")?)?));
            }
            if !supersede {
                return Err(Error::busy("another operation on the instance is still running"));
            }
        }
        insert_operation(&mut tx, instance, operation, at).await?;
        tx.commit().await?;
        Ok(InsertOutcome::Inserted)
    }

    /// Requests the cancellation of an operation. Returns false if the operation has ended.
    pub(crate) async fn cancel_operation(&self, id: OperationId) -> Result<bool> {
        let cancelled = self
            .db()
            .execute(
                "UPDATE operations SET cancel = COALESCE(cancel, 'undo'), wake_at = 0 WHERE id = $1 AND finished = 0",
                &[id.to_string().into()],
            )
            .await?;
        Ok(cancelled == 1)
    }

    /// Resumes a stuck operation at its current step. Returns false if the operation is not stuck
    /// or a later operation exists on its instance.
    pub(crate) async fn resume_operation(&self, id: OperationId, at: Timestamp) -> Result<bool> {
        let resumed = self
            .db()
            .execute(
                "UPDATE operations SET status = CASE WHEN undoing = 1 THEN 'undoing' ELSE 'running' END,
                    finished = 0, attempt = 0, wake_at = 0, step_since = $2, updated_at = $2
                WHERE id = $1 AND status = 'stuck' AND NOT EXISTS (SELECT 1 FROM operations l
                    WHERE l.instance = operations.instance AND l.sequence > operations.sequence)",
                &[id.to_string().into(), rows::micros(at).into()],
            )
            .await?;
        Ok(resumed == 1)
    }

    /// Abandons a stuck operation at its current step: it counts as failed. Returns false if it is
    /// not stuck.
    pub(crate) async fn abandon_operation(&self, id: OperationId, at: Timestamp) -> Result<bool> {
        let abandoned = self
            .db()
            .execute(
                "UPDATE operations SET status = 'failed', state = 'null', updated_at = $2
                WHERE id = $1 AND status = 'stuck'",
                &[id.to_string().into(), rows::micros(at).into()],
            )
            .await?;
        Ok(abandoned == 1)
    }

    /// Returns an operation. Operations are removed together with their instance.
    pub(crate) async fn operation(&self, id: OperationId) -> Result<Option<Operation>> {
        let row = self.db().row("SELECT * FROM operations WHERE id = $1", &[id.to_string().into()]).await?;
        row.as_ref().map(rows::operation).transpose()
    }

    /// Returns the operations on an instance in the order in which they were requested.
    pub(crate) async fn operations(&self, instance: InstanceId) -> Result<Vec<Operation>> {
        let found = self
            .db()
            .rows("SELECT * FROM operations WHERE instance = $1 ORDER BY sequence", &[instance.to_string().into()])
            .await?;
        found.iter().map(rows::operation).collect()
    }
}

/// Writes the first journal row of an operation, behind the ones that its instance already has.
pub(in crate::store) async fn insert_operation(
    tx: &mut Tx,
    instance: InstanceId,
    new: &NewOperation,
    at: Timestamp,
) -> Result<()> {
    let values = [
        new.id.to_string().into(),
        instance.to_string().into(),
        new.kind.into(),
        new.state.to_string().into(),
        new.step.into(),
        rows::micros(at).into(),
    ];
    tx.execute(
        "INSERT INTO operations (id, instance, sequence, kind, state, status, finished, undoing, step, step_since,
            attempt, wake_at, lease_until, epoch, created_at, updated_at)
        SELECT $1, $2, COALESCE(MAX(o.sequence), 0) + 1, $3, $4, 'running', 0, 0, $5, $6, 0, $6, 0, 0, $6, $6
        FROM operations o WHERE o.instance = $2",
        &values,
    )
    .await?;
    Ok(())
}
