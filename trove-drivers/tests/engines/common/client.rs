//! A tenant's session with any engine, as little as tests of all of them need.

use mysql_async::{Conn, OptsBuilder, prelude::Queryable};
use tokio_postgres::SimpleQueryMessage;

use super::{Fixture, mysql};

pub enum Client {
    PostgreSql(tokio_postgres::Client),
    MySql(Box<Conn>),
}

impl Client {
    /// Runs statements, of which none returns anything that counts.
    pub async fn run(&mut self, sql: &str) -> Result<(), String> {
        match self {
            Self::PostgreSql(client) => client.batch_execute(sql).await.map_err(|error| format!("{error:?}")),
            Self::MySql(conn) => conn.query_drop(sql).await.map_err(|error| error.to_string()),
        }
    }

    /// The first value of the first row, as text.
    pub async fn text(&mut self, sql: &str) -> Result<String, String> {
        match self {
            Self::PostgreSql(client) => {
                let answer = client.simple_query(sql).await.map_err(|error| format!("{error:?}"))?;
                let row = answer.iter().find_map(|message| match message {
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
        self.subject.datastore == "postgresql"
    }

    /// A session as this user with this database.
    pub async fn client(&self, user: &str, password: &str, database: &str) -> Result<Client, String> {
        if self.is_postgresql() {
            let client = self.login(user, password, database).await;
            return client.map(Client::PostgreSql).map_err(|error| format!("{error:?}"));
        }
        let conn = mysql::login(&self.host.endpoint, user, password, database).await;
        conn.map(|conn| Client::MySql(Box::new(conn))).map_err(|error| error.to_string())
    }

    /// The administrator, as the driver is one, in a session that no change waits for.
    pub async fn administrator(&self) -> Client {
        if self.is_postgresql() {
            return Client::PostgreSql(self.admin().await);
        }
        let socket = self.host.directory.join("run/mysql.sock").to_str().map(str::to_owned);
        let opts = OptsBuilder::default().socket(socket).user(Some("trove_admin")).db_name(Some("information_schema"));
        Client::MySql(Box::new(Conn::new(opts).await.unwrap()))
    }
}
