//! A session with a server of any engine.

use mysql_async::{Conn, Opts, OptsBuilder, prelude::Queryable};
use tokio_postgres::SimpleQueryMessage;

use super::{Fixture, eventually, mysql};

pub enum Client {
    PostgreSql(tokio_postgres::Client),
    MySql(Box<Conn>),
}

impl Client {
    /// Runs statements and discards their results.
    pub async fn run(&mut self, sql: &str) -> Result<(), String> {
        match self {
            Self::PostgreSql(client) => client.batch_execute(sql).await.map_err(|error| format!("{error:?}")),
            Self::MySql(conn) => conn.query_drop(sql).await.map_err(|error| error.to_string()),
        }
    }

    /// Returns the first value of the first row as text.
    pub async fn text(&mut self, sql: &str) -> Result<String, String> {
        match self {
            Self::PostgreSql(client) => {
                let messages = client.simple_query(sql).await.map_err(|error| format!("{error:?}"))?;
                let row = messages.iter().find_map(|message| match message {
                    SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                    _ => None,
                });
                row.ok_or_else(|| "no row".to_owned())
            }
            Self::MySql(conn) => {
                let value: Option<String> = conn.query_first(sql).await.map_err(|error| error.to_string())?;
                value.ok_or_else(|| "no row".to_owned())
            }
        }
    }
}

impl Fixture {
    pub fn is_postgresql(&self) -> bool {
        self.engine.datastore == "postgresql"
    }

    /// Opens a session as this user in this database.
    pub async fn client(&self, user: &str, password: &str, database: &str) -> Result<Client, String> {
        if self.is_postgresql() {
            let client = self.login(user, password, database).await;
            return client.map(Client::PostgreSql).map_err(|error| format!("{error:?}"));
        }
        let conn = mysql::login(&self.host.endpoint, user, password, database).await;
        conn.map(|conn| Client::MySql(Box::new(conn))).map_err(|error| error.to_string())
    }

    /// Opens a session as the administrator that the driver uses, over the local socket.
    pub async fn administrator(&self) -> Client {
        if self.is_postgresql() {
            return Client::PostgreSql(self.admin().await);
        }
        let socket = self.host.directory.join("run/mysql.sock").to_str().map(str::to_owned);
        let opts: Opts =
            OptsBuilder::default().socket(socket).user(Some("trove_admin")).db_name(Some("information_schema")).into();
        // The server may still be closing sessions that a test dropped.
        let connect = async || Conn::new(opts.clone()).await.map_err(|error| error.to_string());
        Client::MySql(Box::new(eventually("an administrator session", connect).await))
    }

    /// Waits until the server has closed all sessions of a user.
    pub async fn wait_until_disconnected(&self, user: &str) {
        let mut admin = self.administrator().await;
        let count = match self.is_postgresql() {
            true => format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}'"),
            false => {
                format!("SELECT CAST(count(*) AS CHAR) FROM information_schema.processlist WHERE user = '{user}'")
            }
        };
        eventually("sessions closed", async || match admin.text(&count).await.unwrap().as_str() {
            "0" => Ok(()),
            open => Err(format!("{open} open")),
        })
        .await;
    }
}
