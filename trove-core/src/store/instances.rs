//! Instances: admission of operations, reports from guests, and reading.

use super::{
    Store,
    db::{Row, Tx, Value},
    journal::NewOperation,
    rows,
};
use crate::{
    error::{Error, Kind, Result},
    id::{InstanceId, OperationId},
    lifecycle::State,
    model::{Event, EventKind, Instance, Observed, Operation, RootChange},
    time::Timestamp,
};

/// What became of a request to begin an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It is in the journal.
    Begun,
    /// The same was asked before; this is its operation.
    Joined(OperationId),
    /// The instance left the expected state meanwhile; look again.
    Raced,
}

/// What a guest said about its instance.
#[derive(Clone, Debug)]
pub struct Report {
    /// The instance.
    pub instance: InstanceId,
    /// What was seen.
    pub observed: Observed,
    /// When.
    pub at: Timestamp,
}

const INSTANCE: &str = "SELECT * FROM instances WHERE id = $1";

impl Store {
    /// Writes a new instance and the first row of its creation.
    ///
    /// `request` is a digest of what was asked: the same id with the same digest joins the creation, with another it is
    /// [`Conflict`](Kind::Conflict).
    pub async fn insert_instance(
        &self,
        instance: &Instance,
        request: &str,
        operation: &NewOperation,
    ) -> Result<Admitted> {
        let mut tx = self.db().begin().await?;
        let values = [
            instance.id.to_string().into(),
            instance.project.clone().into(),
            instance.name.clone().into(),
            instance.datastore.clone().into(),
            instance.version.clone().into(),
            instance.image.clone().into(),
            rows::json(&instance.flavor)?.into(),
            rows::to_int(instance.volume.as_bytes()).into(),
            i64::from(instance.public).into(),
            request.into(),
            rows::word(&instance.state)?.into(),
            rows::json(&instance.health)?.into(),
            rows::micros(instance.created_at).into(),
            instance.version_number.clone().into(),
            instance.configuration.map(|id| id.to_string()).into(),
        ];
        let inserted = tx
            .execute(
                "INSERT INTO instances (id, project, name, datastore, version, image, flavor, volume_bytes, public,
                    request, state, health, epoch, created_at, updated_at, version_number, configuration)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0, $13, $13, $14, $15)",
                &values,
            )
            .await;
        match inserted {
            Ok(_) => {}
            Err(error) if error.kind() == Kind::Conflict => {
                drop(tx);
                return match self.creation(instance.id, request).await? {
                    Some(joined) => Ok(Admitted::Joined(joined)),
                    None if instance.configuration.is_some() => {
                        Err(Error::conflict("the configuration group is gone").because(error))
                    }
                    None => Ok(Admitted::Raced),
                };
            }
            Err(error) => return Err(error),
        }
        insert_operation(&mut tx, instance.id, operation, instance.created_at).await?;
        tx.commit().await?;
        Ok(Admitted::Begun)
    }

    /// The creation of an instance that was asked for with this request; `None` where there is none of this id.
    /// [`Conflict`](Kind::Conflict) where it was asked for differently.
    pub async fn creation(&self, id: InstanceId, request: &str) -> Result<Option<OperationId>> {
        let row = self
            .db()
            .row(
                "SELECT i.request, o.id AS operation FROM instances i JOIN operations o ON o.instance = i.id
                WHERE i.id = $1 AND o.sequence = 1",
                &[id.to_string().into()],
            )
            .await?;
        match row {
            Some(row) if row.text("request")? == request => rows::id(&row.text("operation")?).map(Some),
            Some(_) => Err(Error::conflict(format!("instance {id} exists and was asked for differently"))),
            None => Ok(None),
        }
    }

    /// Moves an instance from one state to another and writes the first row of the operation that does it.
    ///
    /// `supersede` ends what runs on the instance, where it stands, before this one begins.
    pub async fn begin_operation(
        &self,
        instance: InstanceId,
        (from, to): (State, State),
        operation: &NewOperation,
        supersede: bool,
        at: Timestamp,
    ) -> Result<Admitted> {
        let mut tx = self.db().begin().await?;
        let id = Value::from(instance.to_string());
        // Operations before their instance, as everywhere, so that two transactions never wait for each other.
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
            operation.seen.map(rows::to_int).into(),
        ];
        let moved = tx
            .execute(
                "UPDATE instances SET state = $3, updated_at = $4, configuration = COALESCE($5, configuration)
                WHERE id = $1 AND state = $2 AND epoch = COALESCE($6, epoch)",
                &states,
            )
            .await?;
        if moved == 0 {
            return Ok(Admitted::Raced);
        }
        let running = tx
            .row(
                "SELECT id, kind FROM operations WHERE instance = $1 AND finished = 0 ORDER BY sequence DESC LIMIT 1",
                &[id],
            )
            .await?;
        if let Some(running) = running {
            if running.text("kind")? == operation.kind {
                return Ok(Admitted::Joined(rows::id(&running.text("id")?)?));
            }
            if !supersede {
                return Err(Error::busy("another operation on the instance has not ended yet"));
            }
        }
        insert_operation(&mut tx, instance, operation, at).await?;
        tx.commit().await?;
        Ok(Admitted::Begun)
    }

    /// Asks for an operation to be taken back. False where it has ended.
    pub async fn cancel_operation(&self, id: OperationId) -> Result<bool> {
        let cancelled = self
            .db()
            .execute(
                "UPDATE operations SET cancel = COALESCE(cancel, 'undo'), wake_at = 0 WHERE id = $1 AND finished = 0",
                &[id.to_string().into()],
            )
            .await?;
        Ok(cancelled == 1)
    }

    /// Lets a stuck operation try again where it stands. False where it is not stuck, or another has begun since.
    pub async fn resume_operation(&self, id: OperationId, at: Timestamp) -> Result<bool> {
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

    /// Gives a stuck operation up where it stands. False where it is not stuck.
    pub async fn abandon_operation(&self, id: OperationId, at: Timestamp) -> Result<bool> {
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

    /// Writes what guests said, in one transaction; returns what is another than before: health, how settings stand.
    pub async fn report(&self, reports: &[Report]) -> Result<Vec<Event>> {
        let mut changed = Vec::new();
        let mut tx = self.db().begin().await?;
        for report in reports {
            let health = rows::json(&report.observed.health)?;
            let id = Value::from(report.instance.to_string());
            let before =
                tx.row("SELECT health, settings FROM instances WHERE id = $1", std::slice::from_ref(&id)).await?;
            let Some(before) = before else { continue };
            if before.text("health")? != health {
                let kind = EventKind::Health { health: report.observed.health.clone() };
                changed.push(Event::new(report.at, report.instance, kind));
            }
            let settings = report.observed.settings.as_ref().map(rows::json).transpose()?;
            if let Some(state) = &report.observed.settings
                && settings != before.maybe_text("settings")?
            {
                changed.push(Event::new(report.at, report.instance, EventKind::Settings { state: state.clone() }));
            }
            let values = [
                id,
                health.into(),
                report.observed.server_version.clone().into(),
                report.observed.disk.as_ref().map(rows::json).transpose()?.into(),
                rows::micros(report.at).into(),
                settings.into(),
            ];
            tx.execute(
                "UPDATE instances SET health = $2, server_version = COALESCE($3, server_version),
                    disk = COALESCE($4, disk), reported_at = $5, settings = COALESCE($6, settings)
                WHERE id = $1",
                &values,
            )
            .await?;
        }
        tx.commit().await?;
        Ok(changed)
    }

    /// Notes that the tenant's root of an instance is to be enabled or disabled.
    pub async fn note_root(&self, instance: InstanceId, change: RootChange) -> Result<()> {
        let values = [instance.to_string().into(), rows::micros(change.at).into(), i64::from(change.enabled).into()];
        self.db().execute("INSERT INTO root_history (instance, at, enabled) VALUES ($1, $2, $3)", &values).await?;
        Ok(())
    }

    /// When the tenant's root of an instance was asked to be enabled or disabled, the last hundred times, latest first.
    pub async fn root_history(&self, instance: InstanceId) -> Result<Vec<RootChange>> {
        let found = self
            .db()
            .rows(
                "SELECT at, enabled FROM root_history WHERE instance = $1 ORDER BY at DESC LIMIT 100",
                &[instance.to_string().into()],
            )
            .await?;
        let change =
            |row: &Row| Ok(RootChange { at: rows::timestamp(row.int("at")?)?, enabled: row.int("enabled")? != 0 });
        found.iter().map(change).collect()
    }

    /// One instance.
    pub async fn instance(&self, id: InstanceId) -> Result<Option<Instance>> {
        self.db().row(INSTANCE, &[id.to_string().into()]).await?.as_ref().map(rows::instance).transpose()
    }

    /// Instances in order of creation: of one project or of all, those behind `after`, `limit` at the most.
    pub async fn instances(
        &self,
        project: Option<&str>,
        after: Option<&Instance>,
        limit: u32,
    ) -> Result<Vec<Instance>> {
        let [at, id] = rows::behind(after.map(|after| (after.created_at, after.id.to_string())));
        let values = [project.map(str::to_owned).into(), at, id, i64::from(limit).into()];
        let found = self
            .db()
            .rows(
                "SELECT i.* FROM instances i
                WHERE ($1 IS NULL OR i.project = $1) AND (i.created_at, i.id) > ($2, $3)
                ORDER BY i.created_at, i.id LIMIT $4",
                &values,
            )
            .await?;
        found.iter().map(rows::instance).collect()
    }

    /// One operation, until its instance is gone.
    pub async fn operation(&self, id: OperationId) -> Result<Option<Operation>> {
        let row = self.db().row("SELECT * FROM operations WHERE id = $1", &[id.to_string().into()]).await?;
        row.as_ref().map(rows::operation).transpose()
    }

    /// The operations on an instance, in the order they were asked for.
    pub async fn operations(&self, instance: InstanceId) -> Result<Vec<Operation>> {
        let found = self
            .db()
            .rows("SELECT * FROM operations WHERE instance = $1 ORDER BY sequence", &[instance.to_string().into()])
            .await?;
        found.iter().map(rows::operation).collect()
    }
}

async fn insert_operation(tx: &mut Tx, instance: InstanceId, new: &NewOperation, at: Timestamp) -> Result<()> {
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
