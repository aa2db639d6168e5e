//! The driver suite on Valkey, one test for each case. `TROVE_TEST_FULL=1` runs all cases on the
//! second version too.

#![allow(clippy::panic)]

use std::{env, process::ExitCode, time::Duration};

use async_trait::async_trait;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, FromRedisValue, InfoDict, IntoConnectionInfo};
use redis::{RedisConnectionInfo, RedisError, aio::MultiplexedConnection, cmd};
use trove_core::{
    conformance::{
        Harness, Selection, Tier,
        driver::{ClientLogin, ClientSession, SampleSettings, SuiteOptions},
    },
    datastore::Release,
    error::{Error, Result},
    model::{Endpoint, Setting},
};
use trove_drivers::conformance::{DockerTestbed, Sessions};
use trove_valkey::Valkey;

fn main() -> ExitCode {
    let second = match Tier::from_env() {
        Tier::Quick => Selection::Matching("accounts::users"),
        Tier::Full => Selection::All,
    };
    Harness::from_args()
        .driver("valkey_8_1", Selection::All, async || {
            let target = Release::new("9.1", image("TROVE_IMAGE_VALKEY_9_1"));
            Ok(testbed("8.1", "TROVE_IMAGE_VALKEY_8_1")?.upgrade_target(target))
        })
        .driver("valkey_9_1", second, async || testbed("9.1", "TROVE_IMAGE_VALKEY_9_1"))
        .run()
}

fn testbed(version: &str, variable: &str) -> Result<DockerTestbed> {
    let mut samples = SampleSettings::default();
    samples.dynamic = Some(("maxmemory-policy".to_owned(), "allkeys-lru".into(), "allkeys-lfu".into()));
    samples.restart = Some(("databases".to_owned(), 17.into(), 18.into()));
    samples.rejected = Some(("maxclients".to_owned(), 0.into()));
    samples.fatal = Some(("tcp-backlog".to_owned(), Setting::Integer(-1)));
    let driver = Valkey::new().image(version, image(variable));
    let testbed = DockerTestbed::new(driver)?.version(version).sessions(Clients).sample_settings(samples);
    Ok(testbed.options(SuiteOptions::for_tier(Tier::from_env())))
}

fn image(variable: &str) -> String {
    env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} must name the image to test; `cargo xtask images` prints it"))
}

struct Clients;

#[async_trait]
impl Sessions for Clients {
    async fn open(&self, endpoint: &Endpoint, login: &ClientLogin) -> Result<Box<dyn ClientSession>> {
        let address =
            ConnectionAddr::Tcp(endpoint.host.clone(), endpoint.port).into_connection_info().map_err(unavailable)?;
        let user = RedisConnectionInfo::default().set_username(&login.user).set_password(&login.password);
        let client = Client::open(address.set_redis_settings(user)).map_err(unavailable)?;
        let config = AsyncConnectionConfig::new().set_connection_timeout(TIMEOUT).set_response_timeout(TIMEOUT);
        let session = client.get_multiplexed_async_connection_with_config(&config).await.map_err(unavailable)?;
        Ok(Box::new(TenantSession(session)))
    }
}

const TIMEOUT: Option<Duration> = Some(Duration::from_secs(120));

fn unavailable(error: RedisError) -> Error {
    Error::unavailable("the server rejected a call").with_source(error)
}

struct TenantSession(MultiplexedConnection);

impl TenantSession {
    async fn call<T: FromRedisValue>(&mut self, command: &str, arguments: &[&str]) -> Result<T> {
        cmd(command).arg(arguments).query_async(&mut self.0).await.map_err(unavailable)
    }
}

#[async_trait]
impl ClientSession for TenantSession {
    async fn put(&mut self, name: &str, text: &str) -> Result<()> {
        self.call("SET", &[name, text]).await
    }

    async fn get(&mut self, name: &str) -> Result<Option<String>> {
        self.call("GET", &[name]).await
    }

    async fn current_user(&mut self) -> Result<(String, Option<String>)> {
        Ok((self.call("ACL", &["WHOAMI"]).await?, None))
    }

    async fn parameter(&mut self, name: &str) -> Result<String> {
        if name == "databases" {
            // Clients cannot query the number of databases; selecting one beyond the last fails.
            let mut count = 0;
            while self.call::<()>("SELECT", &[&format!("{count}")]).await.is_ok() {
                count += 1;
            }
            return self.call::<()>("SELECT", &["0"]).await.map(|()| format!("{count}"));
        }
        let info: InfoDict = self.call("INFO", &[]).await?;
        info.get(&name.replace('-', "_")).ok_or_else(|| Error::not_found("the server does not report the parameter"))
    }
}
