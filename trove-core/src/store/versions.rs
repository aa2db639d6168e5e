//! The registry of versions, and the cache of their parameter catalogs.

use super::{
    Store,
    db::{Row, Tx, Value},
    rows,
};
use crate::{
    error::{Error, Kind, Result},
    model::{DatastoreVersion, ParameterCatalog},
    secret::Sealed,
    time::Timestamp,
};

/// The version of this library.
const LIBRARY: &str = env!("CARGO_PKG_VERSION");

/// A version with the sealed password for the registry of its image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredVersion {
    /// The version.
    pub(crate) version: DatastoreVersion,
    /// The password, if the registry requires one.
    pub(crate) password: Option<Sealed>,
    /// Whether an operator added or changed the version.
    pub(crate) edited: bool,
}

impl Store {
    /// Inserts a version. It becomes the default if it is marked so or its datastore has no
    /// default. [`Conflict`](Kind::Conflict) if the name exists.
    pub(crate) async fn insert_version(&self, stored: &StoredVersion) -> Result<()> {
        let version = &stored.version;
        let mut tx = self.db().begin().await?;
        clear_default(&mut tx, version).await?;
        let inserted = tx
            .execute(
                "INSERT INTO datastore_versions (datastore, name, number, image, username, password, active, preferred,
                    created_at, updated_at, edited)
                VALUES ($1, $2, $3, $4, $5, $6, $7,
                    CASE WHEN EXISTS (SELECT 1 FROM datastore_versions v WHERE v.datastore = $1 AND v.preferred = 1)
                    THEN $8 ELSE 1 END, $9, $10, $11)",
                &values(stored)?,
            )
            .await;
        inserted.map_err(|error| match error.kind() {
            Kind::Conflict => {
                let (datastore, name) = (&version.datastore, &version.name);
                Error::conflict(format!("datastore {datastore} already has a version {name:?}")).with_source(error)
            }
            _ => error,
        })?;
        tx.commit().await
    }

    /// Updates a version. Returns false if it no longer exists as last updated at `before`.
    pub(crate) async fn update_version(&self, stored: &StoredVersion, before: Timestamp) -> Result<bool> {
        let mut tx = self.db().begin().await?;
        clear_default(&mut tx, &stored.version).await?;
        let mut written = values(stored)?.to_vec();
        written.push(rows::micros(before).into());
        let updated = tx
            .execute(
                "UPDATE datastore_versions SET number = $3, image = $4, username = $5, password = $6, active = $7,
                    preferred = $8, created_at = $9, updated_at = $10, edited = $11
                WHERE datastore = $1 AND name = $2 AND updated_at = $12",
                &written,
            )
            .await?;
        if updated == 0 {
            // Rolls back, so that the datastore keeps its default.
            return Ok(false);
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Deletes a version. Returns false if it does not exist.
    ///
    /// [`Conflict`](Kind::Conflict) if an instance or a configuration group uses it, or while an
    /// instance of its datastore is being upgraded.
    pub(crate) async fn delete_version(&self, datastore: &str, name: &str) -> Result<bool> {
        let mut tx = self.db().begin().await?;
        let values = [datastore.into(), name.into()];
        let used = tx
            .row(
                "SELECT 1 AS used WHERE EXISTS (SELECT 1 FROM instances WHERE datastore = $1 AND version = $2)
                    OR EXISTS (SELECT 1 FROM configurations WHERE datastore = $1 AND version = $2)
                    OR EXISTS (SELECT 1 FROM instances i JOIN operations o ON o.instance = i.id
                        WHERE i.datastore = $1 AND o.finished = 0 AND o.kind LIKE 'instance.upgrade/%')",
                &values,
            )
            .await?;
        if used.is_some() {
            return Err(Error::conflict(format!("version {name:?} of datastore {datastore} is in use")));
        }
        let deleted = tx.execute("DELETE FROM datastore_versions WHERE datastore = $1 AND name = $2", &values).await?;
        tx.commit().await?;
        Ok(deleted == 1)
    }

    /// Returns the versions of one datastore or of all; the default first, then in order of
    /// creation.
    pub(crate) async fn versions(&self, datastore: Option<&str>) -> Result<Vec<StoredVersion>> {
        let found = self
            .db()
            .rows(
                "SELECT * FROM datastore_versions WHERE ($1 IS NULL OR datastore = $1)
                ORDER BY datastore, preferred DESC, created_at, name DESC",
                &[datastore.map(str::to_owned).into()],
            )
            .await?;
        found.iter().map(stored).collect()
    }

    /// Returns a version.
    pub(crate) async fn version(&self, datastore: &str, name: &str) -> Result<Option<StoredVersion>> {
        let row = self
            .db()
            .row(
                "SELECT * FROM datastore_versions WHERE datastore = $1 AND name = $2",
                &[datastore.into(), name.into()],
            )
            .await?;
        row.as_ref().map(stored).transpose()
    }

    /// Caches the parameter catalog of an image.
    pub(crate) async fn cache_catalog(&self, datastore: &str, catalog: &ParameterCatalog) -> Result<()> {
        let values = [datastore.into(), catalog.digest.clone().into(), rows::json(catalog)?.into(), LIBRARY.into()];
        self.db()
            .execute(
                "INSERT INTO catalogues (datastore, digest, catalogue, library) VALUES ($1, $2, $3, $4)
                ON CONFLICT (datastore, digest) DO UPDATE SET catalogue = $3, library = $4",
                &values,
            )
            .await
            .map(drop)
    }

    /// Returns the cached parameter catalog of an image, if this version of the library has cached
    /// it: which parameters are reserved depends on the version.
    pub(crate) async fn cached_catalog(&self, datastore: &str, digest: &str) -> Result<Option<ParameterCatalog>> {
        let row = self
            .db()
            .row(
                "SELECT catalogue FROM catalogues WHERE datastore = $1 AND digest = $2 AND library = $3",
                &[datastore.into(), digest.into(), LIBRARY.into()],
            )
            .await?;
        // A catalog that cannot be parsed is fetched again.
        Ok(row.and_then(|row| rows::from_json(&row.text("catalogue").ok()?).ok()))
    }
}

/// Clears the default of a datastore if the version is to become its default.
async fn clear_default(tx: &mut Tx, version: &DatastoreVersion) -> Result<()> {
    if version.default {
        let datastore = version.datastore.clone();
        tx.execute("UPDATE datastore_versions SET preferred = 0 WHERE datastore = $1", &[datastore.into()]).await?;
    }
    Ok(())
}

fn values(stored: &StoredVersion) -> Result<[Value; 11]> {
    let version = &stored.version;
    Ok([
        version.datastore.clone().into(),
        version.name.clone().into(),
        version.number.clone().into(),
        version.image.clone().into(),
        version.username.clone().into(),
        stored.password.as_ref().map(rows::word).transpose()?.into(),
        i64::from(version.active).into(),
        i64::from(version.default).into(),
        rows::micros(version.created_at).into(),
        rows::micros(version.updated_at).into(),
        i64::from(stored.edited).into(),
    ])
}

fn stored(row: &Row) -> Result<StoredVersion> {
    let version = DatastoreVersion {
        datastore: row.text("datastore")?,
        name: row.text("name")?,
        number: row.text("number")?,
        image: row.text("image")?,
        username: row.maybe_text("username")?,
        active: row.int("active")? != 0,
        default: row.int("preferred")? != 0,
        created_at: rows::timestamp(row.int("created_at")?)?,
        updated_at: rows::timestamp(row.int("updated_at")?)?,
    };
    let password = row.maybe_text("password")?.as_deref().map(rows::from_word).transpose()?;
    Ok(StoredVersion { version, password, edited: row.int("edited")? != 0 })
}
