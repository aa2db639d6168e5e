//! What a client of the database does: connects over TCP, writes rows, finds them again.

use std::time::Duration;

use tokio_postgres::{Client, NoTls};
use trove_core::{
    control::InstanceHandle,
    error::{Error, Result},
    secret::{ExposeSecret, SecretString},
};

const DEADLINE: Duration = Duration::from_secs(30);

/// A connection of a user to a database.
pub(crate) struct Connection(Client);

impl Connection {
    pub(crate) async fn open(
        instance: &InstanceHandle,
        database: &str,
        user: &str,
        password: &SecretString,
    ) -> Result<Self> {
        let uri = instance.uri(database)?.user(user).with_password(password);
        let connecting = tokio_postgres::connect(uri.expose_secret(), NoTls);
        let (client, connection) = within(connecting, "connect").await?;
        // Ends with the client, which gets to hear of any error.
        tokio::spawn(connection);
        Ok(Self(client))
    }

    pub(crate) async fn server(&self) -> Result<String> {
        let row = within(self.0.query_one("SELECT version()", &[]), "ask for the version").await?;
        Ok(row.get::<_, String>(0).split(" (").next().unwrap_or_default().to_owned())
    }

    /// Makes a table and writes so many rows into it.
    pub(crate) async fn write(&self, rows: i32) -> Result<()> {
        let table = "CREATE TABLE IF NOT EXISTS tour (id integer PRIMARY KEY, note text NOT NULL)";
        within(self.0.batch_execute(table), "make a table").await?;
        let insert = "INSERT INTO tour SELECT n, 'row ' || n FROM generate_series(1, $1) AS n";
        within(self.0.execute(insert, &[&rows]), "write rows").await?;
        Ok(())
    }

    /// How many of the rows written are there as they were written.
    pub(crate) async fn read(&self) -> Result<i64> {
        let count = "SELECT count(*) FROM tour WHERE note = 'row ' || id";
        Ok(within(self.0.query_one(count, &[]), "read rows").await?.get(0))
    }
}

async fn within<T>(work: impl Future<Output = Result<T, tokio_postgres::Error>>, what: &str) -> Result<T> {
    let message = || format!("the client could not {what}");
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(done) => done.map_err(|error| Error::unavailable(message()).because(error)),
        Err(_) => Err(Error::timeout(message())),
    }
}
