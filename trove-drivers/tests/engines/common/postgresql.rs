//! The use of a PostgreSQL server over the network.

use std::time::Duration;

use tokio::net::UnixStream;
use tokio_postgres::{Client, Config, Error, NoTls};
use trove_core::model::Endpoint;
use trove_drivers::PostgreSql;

use super::{Fixture, POSTGRESQL_17};

/// The driver with the image of [`POSTGRESQL_17`].
pub fn driver() -> PostgreSql {
    PostgreSql::new().image(POSTGRESQL_17.version, POSTGRESQL_17.image())
}

/// A session as a tenant's client has it: over TCP, with a password, without TLS.
pub async fn login(endpoint: &Endpoint, user: &str, password: &str, database: &str) -> Result<Client, Error> {
    let mut config = Config::new();
    config.host(&endpoint.host).port(endpoint.port).user(user).password(password).dbname(database);
    let (client, connection) = config.connect_timeout(Duration::from_secs(60)).connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

impl Fixture {
    pub async fn login(&self, user: &str, password: &str, database: &str) -> Result<Client, Error> {
        login(&self.host.endpoint, user, password, database).await
    }

    /// The administrator, as the driver is one.
    pub async fn admin(&self) -> Client {
        let socket = UnixStream::connect(self.host.directory.join("run/.s.PGSQL.5432")).await.unwrap();
        let mut config = Config::new();
        config.user("trove_admin").dbname("postgres");
        let (client, connection) = config.connect_raw(socket, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    pub async fn app(&self) -> Client {
        self.login("app", "secret", "app").await.unwrap()
    }
}
