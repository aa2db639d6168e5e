//! How databases are dropped.

use trove_core::error::Result;

use crate::postgresql::{
    connection::{AdminSession, addressable, translate},
    sql::identifier,
};

/// Drops what drops that broke off have left. Nobody can use it, and it keeps roles from being dropped.
pub(super) async fn finish_drops(session: &AdminSession) -> Result<()> {
    let left = "SELECT datname::text FROM pg_database WHERE datconnlimit = -2";
    for found in addressable(&session.client.query(left, &[]).await.map_err(translate)?) {
        drop_database(session, &found).await?;
    }
    Ok(())
}

/// Drops a database however long it takes: broken off it could only be dropped again.
pub(super) async fn drop_database(session: &AdminSession, name: &str) -> Result<()> {
    session.run("SET statement_timeout = 0").await?;
    session.run(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", identifier(name))).await?;
    session.run("RESET statement_timeout").await
}
