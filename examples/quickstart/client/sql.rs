//! Clients of SQL servers.

use mysql_async::{Conn, OptsBuilder, prelude::Queryable};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use trove_core::{
    control::InstanceHandle,
    error::{Error, Result},
    secret::{ExposeSecret, SecretString},
};

use super::within;

/// A connection to an SQL server. All statements are valid for all of the engines.
pub(crate) enum Sql {
    /// To PostgreSQL.
    PostgreSql(Client),
    /// To MySQL or MariaDB.
    MySql(Conn),
}

impl Sql {
    pub(crate) async fn open(
        instance: &InstanceHandle,
        database: &str,
        user: &str,
        password: &SecretString,
    ) -> Result<Self> {
        let uri = instance.uri(database)?.user(user).with_password(password);
        if uri.expose_secret().starts_with("postgresql:") {
            let connecting = tokio_postgres::connect(uri.expose_secret(), NoTls);
            let (client, connection) = within(connecting, "connect").await?;
            // Ends with the client, which receives its errors.
            tokio::spawn(connection);
            return Ok(Self::PostgreSql(client));
        }
        let endpoint = instance.endpoint.as_ref().ok_or_else(|| Error::unavailable("the instance has no endpoint"))?;
        let options = OptsBuilder::default()
            .ip_or_hostname(&endpoint.host)
            .tcp_port(endpoint.port)
            .db_name(Some(database))
            .user(Some(user))
            .pass(Some(password.expose_secret()))
            .prefer_socket(false);
        Ok(Self::MySql(within(Conn::new(options), "connect").await?))
    }

    /// Returns the version of the server.
    pub(crate) async fn version(&mut self) -> Result<String> {
        let version = self.query("SELECT version()", "query the version").await?;
        Ok(version.trim_start_matches("PostgreSQL ").split(" (").next().unwrap_or_default().to_owned())
    }

    /// Creates a table and writes this number of rows.
    pub(crate) async fn write(&mut self, rows: usize) -> Result<()> {
        let table = "CREATE TABLE IF NOT EXISTS tour (id integer PRIMARY KEY, note varchar(20) NOT NULL)";
        self.run(table, "create a table").await?;
        let values: Vec<_> = (1..=rows).map(|id| format!("({id}, 'row {id}')")).collect();
        self.run(&format!("INSERT INTO tour VALUES {}", values.join(", ")), "write rows").await
    }

    /// Returns how many rows are unchanged.
    pub(crate) async fn read(&mut self) -> Result<usize> {
        let count = self.query("SELECT count(*) FROM tour WHERE note = concat('row ', id)", "read rows").await?;
        count.parse().map_err(|error| Error::internal("the server returned an invalid count").with_source(error))
    }

    /// Returns the value of a server parameter in new sessions.
    pub(crate) async fn parameter(&mut self, name: &str) -> Result<String> {
        let query = match self {
            Self::PostgreSql(_) => format!("SHOW {name}"),
            Self::MySql(_) => format!("SELECT @@global.{name}"),
        };
        self.query(&query, "query a parameter").await
    }

    async fn run(&mut self, sql: &str, what: &str) -> Result<()> {
        match self {
            Self::PostgreSql(client) => within(client.batch_execute(sql), what).await,
            Self::MySql(client) => within(client.query_drop(sql), what).await,
        }
    }

    /// Returns the value of a query with one row and one column as text.
    async fn query(&mut self, sql: &str, what: &str) -> Result<String> {
        let answer = match self {
            Self::PostgreSql(client) => {
                within(client.simple_query(sql), what).await?.into_iter().find_map(|message| match message {
                    SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                    _ => None,
                })
            }
            Self::MySql(client) => within(client.query_first::<String, _>(sql), what).await?,
        };
        answer.ok_or_else(|| Error::internal("the server returned no value"))
    }
}
