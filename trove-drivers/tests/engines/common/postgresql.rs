//! Connections to PostgreSQL servers.

use std::time::Duration;

use tokio::net::UnixStream;
use tokio_postgres::{Client, Config, Error, NoTls};
use trove_core::model::Endpoint;
use trove_drivers::PostgreSql;

use super::{Fixture, POSTGRESQL_17};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(120);

/// Returns the driver with the image of [`POSTGRESQL_17`].
pub fn postgresql_driver() -> PostgreSql {
    PostgreSql::new().image(POSTGRESQL_17.version, POSTGRESQL_17.image())
}

/// Connects as a tenant's client does: over TCP, with a password, without TLS.
pub async fn login(endpoint: &Endpoint, user: &str, password: &str, database: &str) -> Result<Client, Error> {
    let mut config = Config::new();
    config.host(&endpoint.host).port(endpoint.port).user(user).password(password).dbname(database);
    let (client, connection) = config.connect_timeout(CONNECT_TIMEOUT).connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

impl Fixture {
    pub async fn login(&self, user: &str, password: &str, database: &str) -> Result<Client, Error> {
        login(&self.host.endpoint, user, password, database).await
    }

    /// Connects to database `postgres` as the administrator that the driver uses.
    pub async fn admin(&self) -> Client {
        self.admin_in("postgres").await
    }

    pub async fn admin_in(&self, database: &str) -> Client {
        let socket = UnixStream::connect(self.host.directory.join("run/.s.PGSQL.5432")).await.unwrap();
        let mut config = Config::new();
        config.user("trove_admin").dbname(database);
        let (client, connection) = config.connect_raw(socket, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    pub async fn app(&self) -> Client {
        self.login("app", "secret", "app").await.unwrap()
    }
}
