//! The client of an engine that keeps values by keys.

use std::iter;

use tokio::net::TcpStream;
use trove_core::{
    control::InstanceHandle,
    error::{Error, Result},
    secret::{ExposeSecret, SecretString},
};
use trove_valkey::Client;

use super::within;

/// A connection to Valkey.
pub(crate) struct Keys(Client<TcpStream>);

impl Keys {
    pub(crate) async fn open(instance: &InstanceHandle, user: &str, password: &SecretString) -> Result<Self> {
        let endpoint = instance.endpoint.as_ref().ok_or_else(|| Error::unavailable("the instance has no endpoint"))?;
        let stream = within(TcpStream::connect((endpoint.host.as_str(), endpoint.port)), "connect").await?;
        let mut client = Client::new(stream);
        client.call(&["AUTH", user, password.expose_secret()]).await?;
        Ok(Self(client))
    }

    /// The number of the server's version.
    pub(crate) async fn version(&mut self) -> Result<String> {
        self.said("valkey_version").await
    }

    /// Writes so many values.
    pub(crate) async fn write(&mut self, rows: usize) -> Result<()> {
        let values: Vec<_> = (1..=rows).flat_map(|id| [format!("tour:{id}"), format!("row {id}")]).collect();
        let words: Vec<_> = iter::once("MSET").chain(values.iter().map(String::as_str)).collect();
        self.0.call(&words).await.map(drop)
    }

    /// How many of so many values are there as they were written.
    pub(crate) async fn read(&mut self, rows: usize) -> Result<usize> {
        let keys: Vec<_> = (1..=rows).map(|id| format!("tour:{id}")).collect();
        let words: Vec<_> = iter::once("MGET").chain(keys.iter().map(String::as_str)).collect();
        let found = self.0.call(&words).await?;
        Ok((1..=rows).zip(found).filter(|(id, value)| *value == format!("row {id}")).count())
    }

    /// The value of a parameter of the server.
    pub(crate) async fn parameter(&mut self, name: &str) -> Result<String> {
        if name != "databases" {
            return self.said(&name.replace('-', "_")).await;
        }
        // It tells nobody how many it has, but lets in.
        let mut count = 0;
        while self.0.call(&["SELECT", &format!("{count}")]).await.is_ok() {
            count += 1;
        }
        self.0.call(&["SELECT", "0"]).await?;
        Ok(format!("{count}"))
    }

    /// What the server says of itself under this name.
    async fn said(&mut self, name: &str) -> Result<String> {
        let said = self.0.call(&["INFO"]).await?.concat();
        let value = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(str::to_owned).ok_or_else(|| Error::internal("the server answers nothing"))
    }
}
