//! Instances: creation, reports from guests, root history and queries.

use serde::Serialize;

use super::{
    Store,
    db::{Row, Sql, Tx, Value},
    journal::{InsertOutcome, NewOperation, insert_operation},
    rows,
};
use crate::{
    error::{Error, Kind, Result},
    id::{InstanceId, OperationId},
    model::{Event, EventKind, Health, Instance, Observed, RootChange},
    time::Timestamp,
};

/// A guest's report on its instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InstanceReport {
    /// The instance.
    pub(crate) instance: InstanceId,
    /// The observation.
    pub(crate) observed: Observed,
    /// The time of the observation.
    pub(crate) at: Timestamp,
    /// A worse health since the last report that was stored.
    pub(crate) earlier: Option<EarlierHealth>,
}

/// A health that was observed before a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EarlierHealth {
    pub(crate) health: Health,
    pub(crate) at: Timestamp,
}

/// The columns of a report in its JSON form, which is how a batch of reports becomes one parameter.
#[derive(Serialize)]
struct ReportRow {
    id: String,
    health: String,
    server_version: Option<String>,
    disk: Option<String>,
    at: i64,
    settings: Option<String>,
}

/// Selects the rows of a JSON array of [`ReportRow`] as `new`.
macro_rules! reported {
    (sqlite) => {
        "(SELECT value ->> 'id' AS id, value ->> 'health' AS health, value ->> 'server_version' AS server_version,
            value ->> 'disk' AS disk, value ->> 'at' AS at, value ->> 'settings' AS settings
        FROM json_each($1)) AS new"
    };
    (postgres) => {
        "json_to_recordset($1::json) AS new (id text, health text, server_version text, disk text, at bigint,
            settings text)"
    };
}

macro_rules! changed_by_report {
    ($database:ident) => {
        concat!(
            "SELECT new.id AS id, CAST(CASE WHEN old.health <> new.health THEN 1 ELSE 0 END AS BIGINT) AS health,
                CAST(CASE WHEN old.settings IS DISTINCT FROM COALESCE(new.settings, old.settings) THEN 1 ELSE 0 END
                    AS BIGINT) AS settings
            FROM ",
            reported!($database),
            " JOIN instances AS old ON old.id = new.id
            WHERE old.health <> new.health
                OR old.settings IS DISTINCT FROM COALESCE(new.settings, old.settings)"
        )
    };
}

macro_rules! update_by_report {
    ($database:ident) => {
        concat!(
            "UPDATE instances SET health = new.health,
                server_version = COALESCE(new.server_version, instances.server_version),
                disk = COALESCE(new.disk, instances.disk), reported_at = new.at,
                settings = COALESCE(new.settings, instances.settings)
            FROM ",
            reported!($database),
            " WHERE instances.id = new.id"
        )
    };
}

/// Selects the instances whose health or settings differ from reports.
const CHANGED_BY_REPORT: Sql = Sql { sqlite: changed_by_report!(sqlite), postgres: changed_by_report!(postgres) };
const UPDATE_BY_REPORT: Sql = Sql { sqlite: update_by_report!(sqlite), postgres: update_by_report!(postgres) };

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

    /// Writes reports of guests in one transaction, at most one of each instance; returns events for
    /// health and settings that changed.
    pub(crate) async fn report(&self, reports: &[InstanceReport]) -> Result<Vec<Event>> {
        let earlier: Vec<_> = reports
            .iter()
            .filter_map(|report| {
                let EarlierHealth { health, at } = report.earlier.clone()?;
                let observed = Observed::new(health);
                Some(InstanceReport { instance: report.instance, observed, at, earlier: None })
            })
            .collect();
        let mut tx = self.db().begin().await?;
        let mut changed = write_reports(&mut tx, &earlier).await?;
        changed.extend(write_reports(&mut tx, reports).await?);
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

async fn write_reports(tx: &mut Tx, reports: &[InstanceReport]) -> Result<Vec<Event>> {
    if reports.is_empty() {
        return Ok(Vec::new());
    }
    let rows = reports.iter().map(ReportRow::new).collect::<Result<Vec<_>>>()?;
    let parameter = [Value::from(rows::json(&rows)?)];
    let mut events = Vec::new();
    for row in tx.rows(tx.text(CHANGED_BY_REPORT), &parameter).await? {
        let id: InstanceId = rows::id(&row.text("id")?)?;
        let Some(report) = reports.iter().find(|report| report.instance == id) else { continue };
        let observed = &report.observed;
        let mut add = |kind| events.push(Event::new(report.at, id, kind));
        if row.int("health")? != 0 {
            add(EventKind::Health { health: observed.health.clone() });
        }
        if let Some(state) =
            observed.settings.as_ref().filter(|_| row.int("settings").is_ok_and(|changed| changed != 0))
        {
            add(EventKind::Settings { state: state.clone() });
        }
    }
    tx.execute(tx.text(UPDATE_BY_REPORT), &parameter).await?;
    Ok(events)
}

impl ReportRow {
    fn new(report: &InstanceReport) -> Result<Self> {
        let InstanceReport { instance, observed, at, earlier: _ } = report;
        Ok(Self {
            id: instance.to_string(),
            health: rows::json(&observed.health)?,
            server_version: observed.server_version.clone(),
            disk: observed.disk.as_ref().map(rows::json).transpose()?,
            at: rows::micros(*at),
            settings: observed.settings.as_ref().map(rows::json).transpose()?,
        })
    }
}
