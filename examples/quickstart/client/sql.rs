//! Clients of engines that speak SQL.

use mysql_async::{Conn, OptsBuilder, prelude::Queryable};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use trove_core::{
    control::InstanceHandle,
    error::{Error, Result},
    secret::{ExposeSecret, SecretString},
};

use super::within;

/// A connection to an engine. What it sends is SQL that all of them understand.
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
            // Ends with the client, which gets to hear of any error.
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

    /// The number of the server's version.
    pub(crate) async fn version(&mut self) -> Result<String> {
        let version = self.ask("SELECT version()", "ask for the version").await?;
        Ok(version.trim_start_matches("PostgreSQL ").split(" (").next().unwrap_or_default().to_owned())
    }

    /// Makes a table and writes so many rows into it.
    pub(crate) async fn write(&mut self, rows: usize) -> Result<()> {
        let table = "CREATE TABLE IF NOT EXISTS tour (id integer PRIMARY KEY, note varchar(20) NOT NULL)";
        self.run(table, "make a table").await?;
        let values: Vec<_> = (1..=rows).map(|id| format!("({id}, 'row {id}')")).collect();
        self.run(&format!("INSERT INTO tour VALUES {}", values.join(", ")), "write rows").await
    }

    /// How many of the rows written are there as they were written.
    pub(crate) async fn read(&mut self) -> Result<usize> {
        let count = self.ask("SELECT count(*) FROM tour WHERE note = concat('row ', id)", "read rows").await?;
        count.parse().map_err(|error| Error::internal("the server does not count").because(error))
    }

    /// The value of a parameter of the server, as new sessions have it.
    pub(crate) async fn parameter(&mut self, name: &str) -> Result<String> {
        let query = match self {
            Self::PostgreSql(_) => format!("SHOW {name}"),
            Self::MySql(_) => format!("SELECT @@global.{name}"),
        };
        self.ask(&query, "ask for a parameter").await
    }

    async fn run(&mut self, sql: &str, what: &str) -> Result<()> {
        match self {
            Self::PostgreSql(client) => within(client.batch_execute(sql), what).await,
            Self::MySql(client) => within(client.query_drop(sql), what).await,
        }
    }

    /// The one value of a query's one row, as text.
    async fn ask(&mut self, sql: &str, what: &str) -> Result<String> {
        let answer = match self {
            Self::PostgreSql(client) => {
                within(client.simple_query(sql), what).await?.into_iter().find_map(|message| match message {
                    SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                    _ => None,
                })
            }
            Self::MySql(client) => within(client.query_first::<String, _>(sql), what).await?,
        };
        answer.ok_or_else(|| Error::internal("the server answers nothing"))
    }
}
