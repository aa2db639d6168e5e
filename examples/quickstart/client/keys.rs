//! The client of a key-value server.

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
            // `within` has the deadline.
            let limits = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
            let client = Client::open(address.set_redis_settings(login))?;
            client.get_multiplexed_async_connection_with_config(&limits).await
        };
        within(connected, "connect").await.map(Self)
    }

    /// Returns the version of the server.
    pub(crate) async fn version(&mut self) -> Result<String> {
        self.info("valkey_version").await
    }

    /// Writes this number of values.
    pub(crate) async fn write(&mut self, rows: usize) -> Result<()> {
        let values: Vec<_> = (1..=rows).map(|id| (format!("tour:{id}"), format!("row {id}"))).collect();
        self.call("MSET", values).await
    }

    /// Returns how many of this number of written values are unchanged.
    pub(crate) async fn read(&mut self, rows: usize) -> Result<usize> {
        let keys: Vec<_> = (1..=rows).map(|id| format!("tour:{id}")).collect();
        let found: Vec<Option<String>> = self.call("MGET", keys).await?;
        Ok((1..=rows).zip(found).filter(|(id, value)| *value == Some(format!("row {id}"))).count())
    }

    /// Returns the value of a server parameter.
    pub(crate) async fn parameter(&mut self, name: &str) -> Result<String> {
        if name != "databases" {
            return self.info(&name.replace('-', "_")).await;
        }
        // INFO does not contain the number of databases.
        let mut count = 0;
        while self.call::<()>("SELECT", count).await.is_ok() {
            count += 1;
        }
        self.call::<()>("SELECT", 0).await?;
        Ok(format!("{count}"))
    }

    /// Returns a field of the output of INFO.
    async fn info(&mut self, name: &str) -> Result<String> {
        let info: InfoDict = self.call("INFO", "default").await?;
        info.get(name).ok_or_else(|| Error::internal("the server returned no value"))
    }

    async fn call<T: FromRedisValue>(&mut self, command: &str, args: impl ToRedisArgs) -> Result<T> {
        within(cmd(command).arg(args).query_async(&mut self.0), "run a command").await
    }
}
