use trove_core::{
    Trove,
    control::{InstanceHandle, NewInstance},
    secret::{ExposeSecret, SecretString, generate_password},
};

use crate::{BenchHost, Result};

/// A PostgreSQL server with a database for the store of a benchmark.
pub struct StoreServer {
    trove: Trove,
    server: InstanceHandle,
    url: SecretString,
}

impl StoreServer {
    /// Creates the server on a host.
    pub async fn start(host: &BenchHost) -> Result<Self> {
        let trove = host.start().await?;
        let password = generate_password(22)?;
        let new = NewInstance::new("store", "postgresql").database("store").user("store", password.clone());
        let server = trove.create(new).await?.active().await?;
        let url = server.uri("store")?.user("store").with_password(&password);
        Ok(Self { trove, server, url })
    }

    /// Returns the URL of the store, with its password.
    pub fn url(&self) -> &str {
        self.url.expose_secret()
    }

    /// Returns the name of the container.
    pub fn container(&self) -> String {
        format!("trove-{}", self.server.id)
    }

    /// Deletes the server.
    pub async fn stop(self) -> Result<()> {
        self.server.delete().await?.wait().await?;
        self.trove.shut_down().await;
        Ok(())
    }
}
