//! The suite of drivers on Valkey, one test for each case. `TROVE_TEST_FULL=1` runs all cases on both versions.

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
    let (first, second) = match Tier::from_env() {
        Tier::Quick => (Selection::Specific, Selection::Matching("accounts::users")),
        Tier::Full => (Selection::All, Selection::All),
    };
    Harness::from_args()
        .driver("valkey_8_1", first, async || {
            let next = Release::new("9.1", image("TROVE_IMAGE_VALKEY_9_1"));
            Ok(testbed("8.1", "TROVE_IMAGE_VALKEY_8_1")?.upgrade_target(next))
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
    env::var(variable).unwrap_or_else(|_| panic!("{variable} names the image to test; `cargo xtask images` prints it"))
}

struct Clients;

#[async_trait]
impl Sessions for Clients {
    async fn open(&self, endpoint: &Endpoint, login: &ClientLogin) -> Result<Box<dyn ClientSession>> {
        let address =
            ConnectionAddr::Tcp(endpoint.host.clone(), endpoint.port).into_connection_info().map_err(failed)?;
        let user = RedisConnectionInfo::default().set_username(&login.user).set_password(&login.password);
        let client = Client::open(address.set_redis_settings(user)).map_err(failed)?;
        let limits = AsyncConnectionConfig::new().set_connection_timeout(LIMIT).set_response_timeout(LIMIT);
        let session = client.get_multiplexed_async_connection_with_config(&limits).await.map_err(failed)?;
        Ok(Box::new(TenantSession(session)))
    }
}

const LIMIT: Option<Duration> = Some(Duration::from_secs(60));

fn failed(error: RedisError) -> Error {
    Error::unavailable("the server refuses").with_source(error)
}

struct TenantSession(MultiplexedConnection);

impl TenantSession {
    async fn call<T: FromRedisValue>(&mut self, command: &str, words: &[&str]) -> Result<T> {
        cmd(command).arg(words).query_async(&mut self.0).await.map_err(failed)
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
            // It tells nobody how many it has, but lets in.
            let mut count = 0;
            while self.call::<()>("SELECT", &[&format!("{count}")]).await.is_ok() {
                count += 1;
            }
            return self.call::<()>("SELECT", &["0"]).await.map(|()| format!("{count}"));
        }
        let info: InfoDict = self.call("INFO", &[]).await?;
        info.get(&name.replace('-', "_")).ok_or_else(|| Error::not_found("the server does not tell it"))
    }
}
