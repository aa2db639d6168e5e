//! The journal as the flow engine uses it: claim an operation, renew the lease, record progress.

use async_trait::async_trait;
use serde_json::Value as Json;

use super::{CancelMode, InstanceChange, Journal, JournalEntry, JournalRecord};
use crate::{
    error::{Error, Result},
    id::{InstanceId, OperationId},
    model::OperationStatus,
    store::{
        Store,
        db::{Row, Value},
        rows,
    },
    time::Timestamp,
};

const CLAIM: &str = "UPDATE operations SET owner = $1, lease_until = $2,
        epoch = (SELECT i.epoch + 1 FROM instances i WHERE i.id = operations.instance)
    WHERE finished = 0 AND lease_until <= $3 AND id = (
        SELECT o.id FROM operations o
        WHERE o.finished = 0 AND o.wake_at <= $3 AND o.lease_until <= $3 AND NOT EXISTS (
            SELECT 1 FROM operations p WHERE p.instance = o.instance AND p.finished = 0 AND p.sequence < o.sequence)
        ORDER BY o.wake_at LIMIT 1)
    RETURNING id, instance, kind, state, undoing, step, step_since, attempt, error, cancel, epoch";

const RECORD: &str = "UPDATE operations SET state = $3, status = $4, finished = $5, step = $6, step_since = $7,
        attempt = $8, error = $9, lease_until = $10,
        wake_at = CASE WHEN cancel = 'supersede' THEN 0 WHEN $10 = 0 THEN $11 ELSE wake_at END, updated_at = $12,
        undoing = $13
    WHERE id = $1 AND epoch = $2 AND finished = 0";

const CHANGE: &str = "UPDATE instances SET state = COALESCE($2, state),
        endpoint = CASE WHEN $3 = 1 THEN $4 ELSE endpoint END,
        fault = CASE WHEN $5 = 1 THEN $6 ELSE fault END, updated_at = $7,
        configuration = CASE WHEN $8 = 1 THEN (SELECT c.id FROM configurations c WHERE c.id = $9) ELSE configuration END,
        configuration_revision = CASE WHEN $8 = 1 THEN $10 ELSE configuration_revision END,
        given = COALESCE($15, given),
        version = COALESCE($11, version), version_number = COALESCE($12, version_number),
        image = COALESCE($13, image), flavor = COALESCE($14, flavor)
    WHERE id = $1";

#[async_trait]
impl Journal for Store {
    async fn claim(&self, owner: &str, now: Timestamp, lease_until: Timestamp) -> Result<Option<JournalEntry>> {
        let mut tx = self.db().begin().await?;
        let claimed = tx
            .row(CLAIM, &[owner.into(), rows::micros(lease_until).into(), rows::micros(now).into()])
            .await?
            .map(|row| entry(&row))
            .transpose()?;
        let Some(entry) = claimed else { return Ok(None) };
        tx.execute(
            "UPDATE instances SET epoch = $2 WHERE id = $1",
            &[entry.instance.to_string().into(), rows::to_int(entry.epoch).into()],
        )
        .await?;
        tx.commit().await?;
        Ok(Some(entry))
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        let row = self
            .db()
            .row(
                "SELECT MIN(CASE WHEN o.wake_at > o.lease_until THEN o.wake_at ELSE o.lease_until END) AS due
                FROM operations o WHERE o.finished = 0 AND NOT EXISTS (
                    SELECT 1 FROM operations p
                    WHERE p.instance = o.instance AND p.finished = 0 AND p.sequence < o.sequence)",
                &[],
            )
            .await?;
        row.map(|row| row.maybe_int("due")).transpose()?.flatten().map(rows::timestamp).transpose()
    }

    async fn renew(&self, id: OperationId, epoch: u64, lease_until: Timestamp) -> Result<Option<CancelMode>> {
        let mut tx = self.db().begin().await?;
        let row = tx
            .row(
                "UPDATE operations SET lease_until = $3 WHERE id = $1 AND epoch = $2 AND finished = 0 RETURNING cancel",
                &[id.to_string().into(), rows::to_int(epoch).into(), rows::micros(lease_until).into()],
            )
            .await?
            .ok_or_else(fenced)?;
        let cancel = cancel(&row)?;
        tx.commit().await?;
        Ok(cancel)
    }

    async fn record(&self, id: OperationId, instance: InstanceId, epoch: u64, record: &JournalRecord) -> Result<()> {
        let ended = record.status.is_final();
        // An ended operation needs its state no longer; a stuck one needs it to resume.
        let keep = !ended || record.status == OperationStatus::Stuck;
        let state = if keep { record.state.to_string() } else { Json::Null.to_string() };
        let values = [
            id.to_string().into(),
            rows::to_int(epoch).into(),
            state.into(),
            rows::word(&record.status)?.into(),
            i64::from(ended).into(),
            record.step.clone().into(),
            rows::micros(record.step_since).into(),
            i64::from(record.attempt).into(),
            record.error.as_ref().map(rows::json).transpose()?.into(),
            record.lease_until.map_or(0, rows::micros).into(),
            rows::micros(record.wake_at).into(),
            rows::micros(record.at).into(),
            i64::from(record.undoing).into(),
        ];
        if record.change == InstanceChange::default() {
            return if self.db().execute(RECORD, &values).await? == 1 { Ok(()) } else { Err(fenced()) };
        }
        let mut tx = self.db().begin().await?;
        if tx.execute(RECORD, &values).await? != 1 {
            return Err(fenced());
        }
        let change = &record.change;
        let instance = Value::from(instance.to_string());
        if change.remove {
            tx.execute("DELETE FROM instances WHERE id = $1", &[instance]).await?;
        } else {
            tx.execute(CHANGE, &changed(instance, change, record.at)?).await?;
        }
        tx.commit().await
    }
}

/// Returns the parameters of [`CHANGE`].
fn changed(instance: Value, change: &InstanceChange, at: Timestamp) -> Result<[Value; 15]> {
    let (endpoint, fault) = (change.endpoint.as_ref(), change.fault.as_ref());
    let (given, release) = (change.assigned_settings.as_ref(), change.release.as_ref());
    let group = given.and_then(|given| given.group);
    Ok([
        instance,
        change.state.as_ref().map(rows::word).transpose()?.into(),
        i64::from(endpoint.is_some()).into(),
        endpoint.and_then(Option::as_ref).map(rows::json).transpose()?.into(),
        i64::from(fault.is_some()).into(),
        fault.and_then(Option::as_ref).map(rows::json).transpose()?.into(),
        rows::micros(at).into(),
        i64::from(given.is_some()).into(),
        group.map(|(id, _)| id.to_string()).into(),
        group.map_or(0, |(_, revision)| rows::to_int(revision)).into(),
        release.map(|release| release.version.clone()).into(),
        release.map(|release| release.number.clone()).into(),
        release.map(|release| release.image.clone()).into(),
        change.flavor.as_ref().map(rows::json).transpose()?.into(),
        given.map(rows::json).transpose()?.into(),
    ])
}

fn entry(row: &Row) -> Result<JournalEntry> {
    Ok(JournalEntry {
        id: rows::id(&row.text("id")?)?,
        instance: rows::id(&row.text("instance")?)?,
        kind: row.text("kind")?,
        // The flow rejects a state that it cannot parse. An error here would block the claims of
        // all operations.
        state: rows::from_json(&row.text("state")?).unwrap_or_default(),
        undoing: row.int("undoing")? != 0,
        step: row.text("step")?,
        step_since: rows::timestamp(row.int("step_since")?)?,
        attempt: u32::try_from(row.int("attempt")?).unwrap_or(u32::MAX),
        error: rows::error(row)?,
        cancel: cancel(row)?,
        epoch: rows::from_int(row.int("epoch")?),
    })
}

fn cancel(row: &Row) -> Result<Option<CancelMode>> {
    match row.maybe_text("cancel")?.as_deref() {
        None => Ok(None),
        Some("supersede") => Ok(Some(CancelMode::Supersede)),
        Some(_) => Ok(Some(CancelMode::Undo)),
    }
}

fn fenced() -> Error {
    Error::fenced("the operation was claimed by another owner")
}
