//! Instances: creation, reports from guests, root history and queries.

use super::{
    Store,
    db::{Row, Value},
    journal::{InsertOutcome, NewOperation, insert_operation},
    rows,
};
use crate::{
    error::{Error, Kind, Result},
    id::{InstanceId, OperationId},
    model::{Event, EventKind, Instance, Observed, RootChange},
    time::Timestamp,
};

/// A guest's report on its instance.
#[derive(Clone, Debug)]
pub(crate) struct InstanceReport {
    /// The instance.
    pub(crate) instance: InstanceId,
    /// The observation.
    pub(crate) observed: Observed,
    /// The time of the observation.
    pub(crate) at: Timestamp,
}

const INSTANCE: &str = "SELECT * FROM instances WHERE id = $1";

impl Store {
    /// Writes a new instance and the first journal row of its creation, in one transaction.
    ///
    /// `request` describes the request without its secrets. If the id exists with the same request,
    /// the outcome is its creation; with another request, the result is
    /// [`Conflict`](Kind::Conflict).
    pub(crate) async fn insert_instance(
        &self,
        instance: &Instance,
        request: &str,
        operation: &NewOperation,
    ) -> Result<InsertOutcome> {
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
                    Some(joined) => Ok(InsertOutcome::Existing(joined)),
                    None if instance.configuration.is_some() => {
                        Err(Error::conflict("the configuration group no longer exists").with_source(error))
                    }
                    None => Ok(InsertOutcome::StateChanged),
                };
            }
            Err(error) => return Err(error),
        }
        insert_operation(&mut tx, instance.id, operation, instance.created_at).await?;
        tx.commit().await?;
        Ok(InsertOutcome::Inserted)
    }

    /// Returns the creation of an instance that was requested with this request; `None` if the id
    /// does not exist. [`Conflict`](Kind::Conflict) if the instance was created with another
    /// request.
    pub(crate) async fn creation(&self, id: InstanceId, request: &str) -> Result<Option<OperationId>> {
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
            Some(_) => {
                Err(Error::conflict(format!("instance {id} already exists and was created with another request")))
            }
            None => Ok(None),
        }
    }

    /// Writes reports of guests in one transaction; returns events for health and settings that
    /// changed.
    pub(crate) async fn report(&self, reports: &[InstanceReport]) -> Result<Vec<Event>> {
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

    /// Records a request to enable or disable the tenant's root user of an instance.
    pub(crate) async fn insert_root_change(&self, instance: InstanceId, change: RootChange) -> Result<()> {
        let values = [instance.to_string().into(), rows::micros(change.at).into(), i64::from(change.enabled).into()];
        self.db().execute("INSERT INTO root_history (instance, at, enabled) VALUES ($1, $2, $3)", &values).await?;
        Ok(())
    }

    /// Returns the last hundred requests to enable or disable the tenant's root user, latest first.
    pub(crate) async fn root_history(&self, instance: InstanceId) -> Result<Vec<RootChange>> {
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

    /// Returns an instance.
    pub(crate) async fn instance(&self, id: InstanceId) -> Result<Option<Instance>> {
        self.db().row(INSTANCE, &[id.to_string().into()]).await?.as_ref().map(rows::instance).transpose()
    }

    /// Returns up to `limit` instances of one project or of all in order of creation, starting
    /// behind `after`.
    pub(crate) async fn instances(
        &self,
        project: Option<&str>,
        after: Option<&Instance>,
        limit: u32,
    ) -> Result<Vec<Instance>> {
        let [at, id] = rows::page_start(after.map(|after| (after.created_at, after.id.to_string())));
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
}
