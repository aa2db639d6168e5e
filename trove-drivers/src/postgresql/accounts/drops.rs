//! Drops databases.

use trove_core::error::Result;

use crate::postgresql::{
    connection::{AdminSession, addressable, translate},
    sql::identifier,
};

/// Completes interrupted drops. Nobody can use what they left, and it prevents roles from being
/// dropped.
pub(super) async fn finish_drops(session: &AdminSession) -> Result<()> {
    let left = "SELECT datname::text FROM pg_database WHERE datconnlimit = -2";
    for found in addressable(&session.client.query(left, &[]).await.map_err(translate)?) {
        drop_database(session, &found).await?;
    }
    Ok(())
}

/// Drops a database without a time limit: an interrupted drop can only be repeated.
pub(super) async fn drop_database(session: &AdminSession, name: &str) -> Result<()> {
    session.run("SET statement_timeout = 0").await?;
    session.run(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", identifier(name))).await?;
    session.run("RESET statement_timeout").await
}
