//! A client of the database: connects over TCP, writes rows and reads them.

mod keys;
mod sql;

use std::time::Duration;

use trove_core::{
    control::InstanceHandle,
    error::{Error, Result},
    secret::SecretString,
};

use keys::Keys;
use sql::Sql;

const DEADLINE: Duration = Duration::from_secs(30);

/// A client connection.
pub(crate) enum Connection {
    /// To an SQL database.
    Sql(Sql),
    /// To a key-value server.
    Keys(Keys),
}

impl Connection {
    pub(crate) async fn open(
        instance: &InstanceHandle,
        database: Option<&str>,
        user: &str,
        password: &SecretString,
    ) -> Result<Self> {
        match database {
            Some(database) => Sql::open(instance, database, user, password).await.map(Self::Sql),
            None => Keys::open(instance, user, password).await.map(Self::Keys),
        }
    }

    /// Returns the version of the server.
    pub(crate) async fn version(&mut self) -> Result<String> {
        match self {
            Self::Sql(client) => client.version().await,
            Self::Keys(client) => client.version().await,
        }
    }

    /// Writes this number of rows.
    pub(crate) async fn write(&mut self, rows: usize) -> Result<()> {
        match self {
            Self::Sql(client) => client.write(rows).await,
            Self::Keys(client) => client.write(rows).await,
        }
    }

    /// Returns how many of this number of written rows are unchanged.
    pub(crate) async fn read(&mut self, rows: usize) -> Result<usize> {
        match self {
            Self::Sql(client) => client.read().await,
            Self::Keys(client) => client.read(rows).await,
        }
    }

    /// Returns the value of a server parameter in new sessions.
    pub(crate) async fn parameter(&mut self, name: &str) -> Result<String> {
        match self {
            Self::Sql(client) => client.parameter(name).await,
            Self::Keys(client) => client.parameter(name).await,
        }
    }
}

async fn within<T, E>(work: impl Future<Output = Result<T, E>>, what: &str) -> Result<T>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let message = || format!("the client could not {what}");
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(done) => done.map_err(|error| Error::unavailable(message()).with_source(error)),
        Err(_) => Err(Error::timeout(message())),
    }
}
