//! The suite of drivers on Valkey, at a pace that leaves time for other tests. `TROVE_CONFORMANCE_FULL` is for the whole
//! of it, and `TROVE_CONFORMANCE_ONLY` for the cases whose name holds a text.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic)]

use std::{env, time::Duration};

use async_trait::async_trait;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, FromRedisValue, InfoDict, IntoConnectionInfo};
use redis::{RedisConnectionInfo, RedisError, aio::MultiplexedConnection, cmd};
use trove_core::{
    conformance::driver::{Login, Pace, Samples, Session, certify_only},
    datastore::Release,
    error::{Error, Result},
    model::{Endpoint, Setting},
};
use trove_drivers::conformance::{DockerTestbed, Sessions};
use trove_valkey::Valkey;

const FULL: &str = "TROVE_CONFORMANCE_FULL";

#[tokio::test(flavor = "multi_thread")]
async fn valkey_8_1_passes() {
    let next = Release::new("9.1", image("TROVE_IMAGE_VALKEY_9_1"));
    passes("8.1", "TROVE_IMAGE_VALKEY_8_1", Some(next), "").await;
}

/// By those cases in which the releases may differ; the other release is upgraded to this one.
#[tokio::test(flavor = "multi_thread")]
async fn valkey_9_1_passes() {
    let only = if env::var_os(FULL).is_none() { "accounts::" } else { "" };
    passes("9.1", "TROVE_IMAGE_VALKEY_9_1", None, only).await;
}

async fn passes(version: &str, variable: &str, next: Option<Release>, only: &str) {
    let mut samples = Samples::default();
    samples.live = Some(("maxmemory-policy".to_owned(), "allkeys-lru".into(), "allkeys-lfu".into()));
    samples.restart = Some(("databases".to_owned(), 17.into(), 18.into()));
    samples.refused = Some(("maxclients".to_owned(), 0.into()));
    samples.fatal = Some(("tcp-backlog".to_owned(), Setting::Integer(-1)));
    let driver = Valkey::new().image(version, image(variable));
    let mut testbed = DockerTestbed::new(driver).unwrap().version(version).sessions(Clients).samples(samples);
    if env::var_os(FULL).is_none() {
        let mut pace = Pace::default();
        (pace.drops, pace.slow_drops) = (2, 1);
        testbed = testbed.pace(pace);
    }
    if let Some(next) = next {
        testbed = testbed.upgrade(next);
    }
    let chosen = env::var("TROVE_CONFORMANCE_ONLY");
    let report = certify_only(testbed, chosen.as_deref().unwrap_or(only)).await;
    println!("{report}");
    assert!(report.passed(), "{report}");
}

fn image(variable: &str) -> String {
    env::var(variable).unwrap_or_else(|_| panic!("{variable} names the image to test; `cargo xtask images` prints it"))
}

struct Clients;

#[async_trait]
impl Sessions for Clients {
    async fn open(&self, endpoint: &Endpoint, login: &Login) -> Result<Box<dyn Session>> {
        let address =
            ConnectionAddr::Tcp(endpoint.host.clone(), endpoint.port).into_connection_info().map_err(failed)?;
        let user = RedisConnectionInfo::default().set_username(&login.user).set_password(&login.password);
        let client = Client::open(address.set_redis_settings(user)).map_err(failed)?;
        let limits = AsyncConnectionConfig::new().set_connection_timeout(LIMIT).set_response_timeout(LIMIT);
        let session = client.get_multiplexed_async_connection_with_config(&limits).await.map_err(failed)?;
        Ok(Box::new(TenantSession(session)))
    }
}

const LIMIT: Option<Duration> = Some(Duration::from_secs(10));

fn failed(error: RedisError) -> Error {
    Error::unavailable("the server refuses").because(error)
}

struct TenantSession(MultiplexedConnection);

impl TenantSession {
    async fn call<T: FromRedisValue>(&mut self, command: &str, words: &[&str]) -> Result<T> {
        cmd(command).arg(words).query_async(&mut self.0).await.map_err(failed)
    }
}

#[async_trait]
impl Session for TenantSession {
    async fn put(&mut self, name: &str, text: &str) -> Result<()> {
        self.call("SET", &[name, text]).await
    }

    async fn get(&mut self, name: &str) -> Result<Option<String>> {
        self.call("GET", &[name]).await
    }

    async fn whoami(&mut self) -> Result<(String, Option<String>)> {
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
