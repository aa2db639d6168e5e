//! Configuration groups.

use super::{Store, db::Row, rows};
use crate::{
    error::{Error, Kind, Result},
    id::{ConfigurationId, InstanceId},
    lifecycle::State,
    model::{ConfigurationGroup, Instance, Settings},
    time::Timestamp,
};

impl Store {
    /// Inserts a group. [`Conflict`](Kind::Conflict) if the id exists.
    pub(crate) async fn insert_configuration(&self, group: &ConfigurationGroup) -> Result<()> {
        let values = [
            group.id.to_string().into(),
            group.project.clone().into(),
            group.name.clone().into(),
            group.description.clone().into(),
            group.datastore.clone().into(),
            group.version.clone().into(),
            rows::json(&group.settings)?.into(),
            rows::to_int(group.revision).into(),
            rows::micros(group.created_at).into(),
        ];
        self.db()
            .execute(
                "INSERT INTO configurations (id, project, name, description, datastore, version, settings, revision,
                    created_at, updated_at)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)",
                &values,
            )
            .await
            .map(drop)
    }

    /// Replaces the settings of a group and increments its revision. Returns false if the group no
    /// longer exists at this revision.
    pub(crate) async fn replace_settings(
        &self,
        id: ConfigurationId,
        settings: &Settings,
        revision: u64,
        at: Timestamp,
    ) -> Result<bool> {
        let values = [
            id.to_string().into(),
            rows::json(settings)?.into(),
            rows::to_int(revision).into(),
            rows::micros(at).into(),
        ];
        let replaced = self
            .db()
            .execute(
                "UPDATE configurations SET settings = $2, revision = revision + 1, updated_at = $4
                WHERE id = $1 AND revision = $3",
                &values,
            )
            .await?;
        Ok(replaced == 1)
    }

    /// Renames a group. Returns false if it does not exist.
    pub(crate) async fn rename_configuration(
        &self,
        id: ConfigurationId,
        name: &str,
        description: &str,
        at: Timestamp,
    ) -> Result<bool> {
        let values = [id.to_string().into(), name.into(), description.into(), rows::micros(at).into()];
        let renamed = self
            .db()
            .execute("UPDATE configurations SET name = $2, description = $3, updated_at = $4 WHERE id = $1", &values)
            .await?;
        Ok(renamed == 1)
    }

    /// Deletes a group; [`Conflict`](Kind::Conflict) if an instance uses it. Succeeds if the group
    /// does not exist.
    pub(crate) async fn delete_configuration(&self, id: ConfigurationId) -> Result<()> {
        let deleted = self.db().execute("DELETE FROM configurations WHERE id = $1", &[id.to_string().into()]).await;
        deleted.map(drop).map_err(|error| match error.kind() {
            Kind::Conflict => Error::conflict("the configuration group is in use by instances").with_source(error),
            _ => error,
        })
    }

    /// Returns a group.
    pub(crate) async fn configuration(&self, id: ConfigurationId) -> Result<Option<ConfigurationGroup>> {
        let row = self.db().row("SELECT * FROM configurations WHERE id = $1", &[id.to_string().into()]).await?;
        row.as_ref().map(group).transpose()
    }

    /// Returns up to `limit` groups of one project or of all in order of creation, starting behind
    /// `after`.
    pub(crate) async fn configurations(
        &self,
        project: Option<&str>,
        after: Option<&ConfigurationGroup>,
        limit: u32,
    ) -> Result<Vec<ConfigurationGroup>> {
        let [at, after] = rows::page_start(after.map(|after| (after.created_at, after.id.to_string())));
        let values = [project.map(str::to_owned).into(), at, after, i64::from(limit).into()];
        let found = self
            .db()
            .rows(
                "SELECT c.* FROM configurations c
                WHERE ($1 IS NULL OR c.project = $1) AND (c.created_at, c.id) > ($2, $3)
                ORDER BY c.created_at, c.id LIMIT $4",
                &values,
            )
            .await?;
        found.iter().map(group).collect()
    }

    /// Returns up to `limit` instances that use a group in order of creation, starting behind
    /// `after`.
    pub(crate) async fn instances_of_configuration(
        &self,
        id: ConfigurationId,
        after: Option<&Instance>,
        limit: u32,
    ) -> Result<Vec<Instance>> {
        let [at, after] = rows::page_start(after.map(|after| (after.created_at, after.id.to_string())));
        let values = [id.to_string().into(), at, after, i64::from(limit).into()];
        let found = self
            .db()
            .rows(
                "SELECT i.* FROM instances i WHERE i.configuration = $1 AND (i.created_at, i.id) > ($2, $3)
                ORDER BY i.created_at, i.id LIMIT $4",
                &values,
            )
            .await?;
        found.iter().map(rows::instance).collect()
    }

    /// Returns active instances with an outdated revision of their group. An instance with a fault
    /// is included only if it has not changed since `since`.
    pub(crate) async fn instances_with_outdated_configuration(
        &self,
        since: Timestamp,
        limit: u32,
    ) -> Result<Vec<InstanceId>> {
        let found = self
            .db()
            .rows(
                "SELECT i.id FROM instances i JOIN configurations c ON c.id = i.configuration
                WHERE i.configuration_revision < c.revision AND i.state = $1
                    AND (i.fault IS NULL OR i.updated_at <= $2)
                ORDER BY i.updated_at LIMIT $3",
                &[rows::word(&State::Active)?.into(), rows::micros(since).into(), i64::from(limit).into()],
            )
            .await?;
        found.iter().map(|row| rows::id(&row.text("id")?)).collect()
    }
}

fn group(row: &Row) -> Result<ConfigurationGroup> {
    Ok(ConfigurationGroup {
        id: rows::id(&row.text("id")?)?,
        project: row.text("project")?,
        name: row.text("name")?,
        description: row.text("description")?,
        datastore: row.text("datastore")?,
        version: row.text("version")?,
        settings: rows::from_json(&row.text("settings")?)?,
        revision: rows::from_int(row.int("revision")?),
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

fn time(row: &Row, column: &str) -> Result<Timestamp> {
    rows::timestamp(row.int(column)?)
}
