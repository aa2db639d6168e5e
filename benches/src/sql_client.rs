//! SQL clients of the servers.

use std::{
    fs::File,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use mysql_async::{Conn, OptsBuilder, prelude::Queryable};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use trove_core::model::Endpoint;

use crate::{Engine, Result};

/// A connection to a server; closed when dropped.
#[derive(Debug)]
pub struct SqlClient(Protocol);

#[derive(Debug)]
enum Protocol {
    PostgreSql(Client, JoinHandle<Result<(), tokio_postgres::Error>>),
    MySql(Conn),
}

impl SqlClient {
    /// Connects over TCP as a user with a password.
    pub async fn connect(
        engine: Engine,
        endpoint: &Endpoint,
        database: &str,
        user: &str,
        password: &str,
    ) -> Result<Self> {
        if engine == Engine::PostgreSql {
            let mut config = tokio_postgres::Config::new();
            config.host(&endpoint.host).port(endpoint.port).user(user).password(password).dbname(database);
            return Self::postgresql(&config).await;
        }
        let options = OptsBuilder::default()
            .ip_or_hostname(&endpoint.host)
            .tcp_port(endpoint.port)
            .db_name(Some(database))
            .user(Some(user))
            .pass(Some(password))
            .prefer_socket(false);
        Ok(Self(Protocol::MySql(Conn::new(options).await?)))
    }

    /// Connects over the Unix socket in a directory as a user without a password.
    pub async fn connect_locally(engine: Engine, directory: &Path, user: &str) -> Result<Self> {
        // The path of a socket is limited to 107 bytes. That of a file descriptor is short.
        let directory = File::open(directory)?;
        let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        if engine == Engine::PostgreSql {
            let mut config = tokio_postgres::Config::new();
            config.host_path(short).user(user).dbname("postgres");
            return Self::postgresql(&config).await;
        }
        let socket = short.join("mysqld.sock").to_string_lossy().into_owned();
        let options = OptsBuilder::default().socket(Some(socket)).user(Some(user)).prefer_socket(true);
        Ok(Self(Protocol::MySql(Conn::new(options).await?)))
    }

    /// Executes a statement.
    pub async fn execute(&mut self, statement: &str) -> Result<()> {
        match &mut self.0 {
            Protocol::PostgreSql(client, _) => client.batch_execute(statement).await?,
            Protocol::MySql(client) => client.query_drop(statement).await?,
        }
        Ok(())
    }

    /// Returns the last column of the first row of a query as text.
    pub async fn query(&mut self, sql: &str) -> Result<String> {
        let value = match &mut self.0 {
            Protocol::PostgreSql(client, _) => {
                let messages = client.simple_query(sql).await?;
                messages.into_iter().find_map(|message| match message {
                    SimpleQueryMessage::Row(row) => row.get(row.len() - 1).map(str::to_owned),
                    _ => None,
                })
            }
            Protocol::MySql(client) => {
                let row = client.query_first::<mysql_async::Row, _>(sql).await?;
                row.and_then(|row| row.get(row.len() - 1))
            }
        };
        value.ok_or_else(|| "the query returned no rows".into())
    }

    async fn postgresql(config: &tokio_postgres::Config) -> Result<Self> {
        let (client, connection) = config.connect(NoTls).await?;
        Ok(Self(Protocol::PostgreSql(client, tokio::spawn(connection))))
    }
}

impl Drop for SqlClient {
    fn drop(&mut self) {
        if let Protocol::PostgreSql(_, connection) = &self.0 {
            connection.abort();
        }
    }
}
