//! The client of an engine that keeps values by keys.

use redis::{AsyncConnectionConfig, Client, ConnectionAddr, FromRedisValue, InfoDict, IntoConnectionInfo};
use redis::{RedisConnectionInfo, ToRedisArgs, aio::MultiplexedConnection, cmd};
use trove_core::{
    control::InstanceHandle,
    error::{Error, Result},
    secret::{ExposeSecret, SecretString},
};

use super::within;

/// A connection to Valkey.
pub(crate) struct Keys(MultiplexedConnection);

impl Keys {
    pub(crate) async fn open(instance: &InstanceHandle, user: &str, password: &SecretString) -> Result<Self> {
        let endpoint = instance.endpoint.as_ref().ok_or_else(|| Error::unavailable("the instance has no endpoint"))?;
        let connected = async {
            let address = ConnectionAddr::Tcp(endpoint.host.clone(), endpoint.port).into_connection_info()?;
            let login = RedisConnectionInfo::default().set_username(user).set_password(password.expose_secret());
            // The limits are those of `within`.
            let limits = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
            let client = Client::open(address.set_redis_settings(login))?;
            client.get_multiplexed_async_connection_with_config(&limits).await
        };
        within(connected, "connect").await.map(Self)
    }

    /// The number of the server's version.
    pub(crate) async fn version(&mut self) -> Result<String> {
        self.said("valkey_version").await
    }

    /// Writes so many values.
    pub(crate) async fn write(&mut self, rows: usize) -> Result<()> {
        let values: Vec<_> = (1..=rows).map(|id| (format!("tour:{id}"), format!("row {id}"))).collect();
        self.call("MSET", values).await
    }

    /// How many of so many values are there as they were written.
    pub(crate) async fn read(&mut self, rows: usize) -> Result<usize> {
        let keys: Vec<_> = (1..=rows).map(|id| format!("tour:{id}")).collect();
        let found: Vec<Option<String>> = self.call("MGET", keys).await?;
        Ok((1..=rows).zip(found).filter(|(id, value)| *value == Some(format!("row {id}"))).count())
    }

    /// The value of a parameter of the server.
    pub(crate) async fn parameter(&mut self, name: &str) -> Result<String> {
        if name != "databases" {
            return self.said(&name.replace('-', "_")).await;
        }
        // It tells nobody how many it has, but lets in.
        let mut count = 0;
        while self.call::<()>("SELECT", count).await.is_ok() {
            count += 1;
        }
        self.call::<()>("SELECT", 0).await?;
        Ok(format!("{count}"))
    }

    /// What the server says of itself under this name.
    async fn said(&mut self, name: &str) -> Result<String> {
        let said: InfoDict = self.call("INFO", "default").await?;
        said.get(name).ok_or_else(|| Error::internal("the server answers nothing"))
    }

    async fn call<T: FromRedisValue>(&mut self, command: &str, words: impl ToRedisArgs) -> Result<T> {
        within(cmd(command).arg(words).query_async(&mut self.0), "talk").await
    }
}
