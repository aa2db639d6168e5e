//! The journal of operations: what the flow engine claims, renews and records.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{
    Store,
    db::{Row, Value},
    rows,
};
use crate::{
    error::{Error, Result},
    id::{ConfigurationId, InstanceId, OperationId},
    lifecycle::State,
    model::{Endpoint, Fault, Flavor, GivenSettings, Instance, OperationError, OperationStatus},
    time::Timestamp,
};

/// Where operations survive. Every write after a claim carries the claim's epoch; a former owner's is
/// [`Fenced`](crate::error::Kind::Fenced).
#[async_trait]
pub trait Journal: Send + Sync {
    /// Takes an operation that is due and that nobody holds, the first of its instance, and raises the epoch.
    async fn claim(&self, owner: &str, now: Timestamp, lease_until: Timestamp) -> Result<Option<Entry>>;

    /// When the next operation is due or a lease on one runs out; `None` where there are none.
    async fn next_due(&self) -> Result<Option<Timestamp>>;

    /// Keeps a claim for longer; tells whether the operation was cancelled meanwhile.
    async fn renew(&self, id: OperationId, epoch: u64, lease_until: Timestamp) -> Result<Option<Cancel>>;

    /// Writes where an operation stands, and what changed about its instance, in one transaction.
    async fn record(&self, id: OperationId, instance: InstanceId, epoch: u64, record: &Record) -> Result<()>;
}

/// An operation to begin.
#[derive(Clone, Debug)]
pub struct NewOperation {
    /// Its identity.
    pub id: OperationId,
    /// Its kind, with version.
    pub kind: &'static str,
    /// Its first step.
    pub step: &'static str,
    /// Its state.
    pub state: Json,
    /// The configuration group it gives its instance, which counts as used from this row on.
    pub configuration: Option<ConfigurationId>,
    /// The instance's epoch on which it was decided; it does not begin once another operation has run since. `None`
    /// where that does not matter.
    pub seen: Option<u64>,
}

/// An operation as claimed.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its identity.
    pub id: OperationId,
    /// The instance it is about.
    pub instance: InstanceId,
    /// Its kind, with version.
    pub kind: String,
    /// Its state, as last recorded.
    pub state: Json,
    /// True where it is being taken back.
    pub undoing: bool,
    /// The step it is at.
    pub step: String,
    /// When it entered the step.
    pub step_since: Timestamp,
    /// How often the step failed.
    pub attempt: u32,
    /// The error it failed with, or that the last try ended with.
    pub error: Option<OperationError>,
    /// Whether and how it was cancelled.
    pub cancel: Option<Cancel>,
    /// The epoch of this claim.
    pub epoch: u64,
}

/// How an operation was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// It is to be taken back.
    Undo,
    /// It is to end where it stands: the operation behind it removes everything.
    Supersede,
}

/// Where an operation stands.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its state; dropped once it has ended.
    pub state: Json,
    /// How far it is.
    pub status: OperationStatus,
    /// True where it is, or was at its end, being taken back.
    pub undoing: bool,
    /// The step it is at.
    pub step: String,
    /// When it entered the step.
    pub step_since: Timestamp,
    /// How often the step failed.
    pub attempt: u32,
    /// The error it failed with, or that the last try ended with.
    pub error: Option<OperationError>,
    /// Until when its owner keeps it; `None` lets it go.
    pub lease_until: Option<Timestamp>,
    /// When to go on, where it was let go.
    pub wake_at: Timestamp,
    /// When this is written.
    pub at: Timestamp,
    /// What changes about the instance.
    pub change: InstanceChange,
}

/// What a step changes about its instance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InstanceChange {
    /// The state it is in now.
    pub state: Option<State>,
    /// Where it is reached; `Some(None)` where it no longer is.
    pub endpoint: Option<Option<Endpoint>>,
    /// The fault to show; `Some(None)` clears it.
    pub fault: Option<Option<Fault>>,
    /// The settings it was given, and of which group; its use of another one ends.
    pub given: Option<GivenSettings>,
    /// What it runs now.
    pub release: Option<InstanceRelease>,
    /// The flavor it has now.
    pub flavor: Option<Flavor>,
    /// True where the row, and all that belongs to it, goes.
    pub remove: bool,
}

/// The version and the image of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRelease {
    /// The version, as the registry of versions calls it.
    pub version: String,
    /// Its number.
    pub number: String,
    /// The image.
    pub image: String,
}

impl From<&Instance> for InstanceRelease {
    fn from(instance: &Instance) -> Self {
        Self {
            version: instance.version.clone(),
            number: instance.version_number.clone(),
            image: instance.image.clone(),
        }
    }
}

impl InstanceChange {
    /// To a state, with no fault any more.
    pub fn to(state: State) -> Self {
        Self { state: Some(state), fault: Some(None), ..Self::default() }
    }

    /// To a state, because something failed.
    pub fn failed(state: State, message: impl Into<String>, at: Timestamp) -> Self {
        let fault = Fault { message: message.into(), at };
        Self { state: Some(state), fault: Some(Some(fault)), ..Self::default() }
    }
}

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
    async fn claim(&self, owner: &str, now: Timestamp, lease_until: Timestamp) -> Result<Option<Entry>> {
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

    async fn renew(&self, id: OperationId, epoch: u64, lease_until: Timestamp) -> Result<Option<Cancel>> {
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

    async fn record(&self, id: OperationId, instance: InstanceId, epoch: u64, record: &Record) -> Result<()> {
        let ended = record.status.is_final();
        // What it was asked with has served its purpose; a stuck operation still needs it to be resumed.
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

/// The parameters of [`CHANGE`].
fn changed(instance: Value, change: &InstanceChange, at: Timestamp) -> Result<[Value; 15]> {
    let (endpoint, fault) = (change.endpoint.as_ref(), change.fault.as_ref());
    let (given, release) = (change.given.as_ref(), change.release.as_ref());
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

fn entry(row: &Row) -> Result<Entry> {
    Ok(Entry {
        id: rows::id(&row.text("id")?)?,
        instance: rows::id(&row.text("instance")?)?,
        kind: row.text("kind")?,
        // What cannot be read is for the flow to refuse: an error here would keep all others from being claimed.
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

fn cancel(row: &Row) -> Result<Option<Cancel>> {
    match row.maybe_text("cancel")?.as_deref() {
        None => Ok(None),
        Some("supersede") => Ok(Some(Cancel::Supersede)),
        Some(_) => Ok(Some(Cancel::Undo)),
    }
}

fn fenced() -> Error {
    Error::fenced("the operation has another owner now")
}
