//! The schema: numbered migrations, which are only ever appended to. Both databases run the same
//! SQL text.

use super::db::{Db, Value};
use crate::error::{Error, Result};

const STEPS: &[&str] = &[
    "CREATE TABLE instances (
        id TEXT NOT NULL PRIMARY KEY,
        project TEXT NOT NULL,
        name TEXT NOT NULL,
        datastore TEXT NOT NULL,
        version TEXT NOT NULL,
        image TEXT NOT NULL,
        flavor TEXT NOT NULL,
        volume_bytes BIGINT NOT NULL,
        public BIGINT NOT NULL,
        request TEXT NOT NULL,
        state TEXT NOT NULL,
        endpoint TEXT,
        fault TEXT,
        health TEXT NOT NULL,
        server_version TEXT,
        disk TEXT,
        reported_at BIGINT,
        epoch BIGINT NOT NULL,
        created_at BIGINT NOT NULL,
        updated_at BIGINT NOT NULL
    )",
    "CREATE INDEX instances_in_order ON instances (project, created_at, id)",
    "CREATE TABLE operations (
        id TEXT NOT NULL PRIMARY KEY,
        instance TEXT NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
        sequence BIGINT NOT NULL,
        kind TEXT NOT NULL,
        state TEXT NOT NULL,
        status TEXT NOT NULL,
        finished BIGINT NOT NULL,
        undoing BIGINT NOT NULL,
        step TEXT NOT NULL,
        step_since BIGINT NOT NULL,
        attempt BIGINT NOT NULL,
        error TEXT,
        cancel TEXT,
        wake_at BIGINT NOT NULL,
        owner TEXT,
        lease_until BIGINT NOT NULL,
        epoch BIGINT NOT NULL,
        created_at BIGINT NOT NULL,
        updated_at BIGINT NOT NULL
    )",
    "CREATE UNIQUE INDEX operations_in_order ON operations (instance, sequence)",
    "CREATE INDEX operations_due ON operations (wake_at) WHERE finished = 0",
    "CREATE TABLE datastore_versions (
        datastore TEXT NOT NULL,
        name TEXT NOT NULL,
        number TEXT NOT NULL,
        image TEXT NOT NULL,
        username TEXT,
        password TEXT,
        active BIGINT NOT NULL,
        preferred BIGINT NOT NULL,
        edited BIGINT NOT NULL,
        created_at BIGINT NOT NULL,
        updated_at BIGINT NOT NULL,
        PRIMARY KEY (datastore, name)
    )",
    "CREATE UNIQUE INDEX datastore_defaults ON datastore_versions (datastore) WHERE preferred = 1",
    "CREATE TABLE catalogues (
        datastore TEXT NOT NULL,
        digest TEXT NOT NULL,
        library TEXT NOT NULL,
        catalogue TEXT NOT NULL,
        PRIMARY KEY (datastore, digest)
    )",
    "CREATE TABLE configurations (
        id TEXT NOT NULL PRIMARY KEY,
        project TEXT NOT NULL,
        name TEXT NOT NULL,
        description TEXT NOT NULL,
        datastore TEXT NOT NULL,
        version TEXT NOT NULL,
        settings TEXT NOT NULL,
        revision BIGINT NOT NULL,
        created_at BIGINT NOT NULL,
        updated_at BIGINT NOT NULL
    )",
    "CREATE INDEX configurations_in_order ON configurations (project, created_at, id)",
    "ALTER TABLE instances ADD COLUMN version_number TEXT NOT NULL DEFAULT ''",
    // Before the registry of versions, the name of a version was its number.
    "UPDATE instances SET version_number = version",
    "ALTER TABLE instances ADD COLUMN configuration TEXT REFERENCES configurations (id)",
    "ALTER TABLE instances ADD COLUMN configuration_revision BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE instances ADD COLUMN given TEXT",
    "ALTER TABLE instances ADD COLUMN settings TEXT",
    "CREATE INDEX instances_of_configuration ON instances (configuration)",
    "CREATE TABLE root_history (
        instance TEXT NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
        at BIGINT NOT NULL,
        enabled BIGINT NOT NULL
    )",
    "CREATE INDEX root_history_in_order ON root_history (instance, at)",
    // Resources of scratch servers that have to be released.
    "CREATE TABLE trials (id TEXT NOT NULL PRIMARY KEY)",
    "CREATE TABLE guest_identities (
        instance TEXT NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
        number BIGINT NOT NULL,
        rpc_key TEXT NOT NULL,
        password TEXT NOT NULL,
        PRIMARY KEY (instance, number)
    )",
    "ALTER TABLE guest_identities ADD COLUMN told BIGINT NOT NULL DEFAULT 1",
];

/// Migrates the schema; [`Unsupported`](crate::error::Kind::Unsupported) if a later version of this
/// library wrote it.
pub(super) async fn migrate(db: &Db) -> Result<()> {
    let mut tx = db.begin().await?;
    tx.lock_schema().await?;
    tx.execute("CREATE TABLE IF NOT EXISTS trove_schema (step BIGINT NOT NULL PRIMARY KEY)", &[]).await?;
    let done = match tx.row("SELECT COUNT(*) AS done FROM trove_schema", &[]).await? {
        Some(row) => usize::try_from(row.int("done")?).unwrap_or(usize::MAX),
        None => 0,
    };
    if done > STEPS.len() {
        return Err(Error::unsupported("the schema of the store is newer than this version of the library"));
    }
    for (number, step) in (0i64..).zip(STEPS).skip(done) {
        tx.execute(step, &[]).await?;
        tx.execute("INSERT INTO trove_schema (step) VALUES ($1)", &[Value::from(number)]).await?;
    }
    tx.commit().await
}
