//! The use of a PostgreSQL server over the network.

use std::time::Duration;

use tokio_postgres::{Client, Config, Error, NoTls};
use trove_drivers::PostgreSql;

use super::{Fixture, POSTGRESQL_17};

/// The driver with the image of [`POSTGRESQL_17`].
pub fn driver() -> PostgreSql {
    PostgreSql::new().image(POSTGRESQL_17.version, POSTGRESQL_17.image())
}

impl Fixture {
    pub async fn login(&self, user: &str, password: &str, database: &str) -> Result<Client, Error> {
        let (endpoint, mut config) = (&self.host.endpoint, Config::new());
        config.host(&endpoint.host).port(endpoint.port).user(user).password(password).dbname(database);
        let (client, connection) = config.connect_timeout(Duration::from_secs(10)).connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    pub async fn app(&self) -> Client {
        self.login("app", "secret", "app").await.unwrap()
    }
}
