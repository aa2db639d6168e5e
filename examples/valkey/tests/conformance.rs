//! The suite of drivers on Valkey. `TROVE_CONFORMANCE_ONLY` runs only the cases whose name holds a text.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic)]

use std::env;

use async_trait::async_trait;
use tokio::net::TcpStream;
use trove_core::{
    conformance::driver::{Login, Samples, Session, certify_only},
    datastore::Release,
    error::{Error, Result},
    model::{Endpoint, Setting},
};
use trove_drivers::conformance::{DockerTestbed, Sessions};
use trove_valkey::{Client, Valkey};

#[tokio::test(flavor = "multi_thread")]
async fn valkey_8_1_passes() {
    let next = Release::new("9.1", image("TROVE_IMAGE_VALKEY_9_1"));
    passes("8.1", "TROVE_IMAGE_VALKEY_8_1", Some(next), "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn valkey_9_1_passes() {
    passes("9.1", "TROVE_IMAGE_VALKEY_9_1", None, "").await;
}

async fn passes(version: &str, variable: &str, next: Option<Release>, only: &str) {
    let mut samples = Samples::default();
    samples.live = Some(("maxmemory-policy".to_owned(), "allkeys-lru".into(), "allkeys-lfu".into()));
    samples.restart = Some(("databases".to_owned(), 17.into(), 18.into()));
    samples.refused = Some(("maxclients".to_owned(), 0.into()));
    samples.fatal = Some(("tcp-backlog".to_owned(), Setting::Integer(-1)));
    let driver = Valkey::new().image(version, image(variable));
    let mut testbed = DockerTestbed::new(driver).unwrap().version(version).sessions(Clients).samples(samples);
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
        let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await;
        let mut client = Client::new(stream.map_err(|error| Error::unavailable("nobody listens").because(error))?);
        client.call(&["AUTH", &login.user, &login.password]).await?;
        Ok(Box::new(TenantSession(client)))
    }
}

struct TenantSession(Client<TcpStream>);

#[async_trait]
impl Session for TenantSession {
    async fn put(&mut self, name: &str, text: &str) -> Result<()> {
        self.0.call(&["SET", name, text]).await.map(drop)
    }

    async fn get(&mut self, name: &str) -> Result<Option<String>> {
        Ok(self.0.call(&["GET", name]).await?.pop())
    }

    async fn whoami(&mut self) -> Result<(String, Option<String>)> {
        Ok((self.0.call(&["ACL", "WHOAMI"]).await?.concat(), None))
    }

    async fn parameter(&mut self, name: &str) -> Result<String> {
        if name == "databases" {
            // It tells nobody how many it has, but lets in.
            let mut count = 0;
            while self.0.call(&["SELECT", &format!("{count}")]).await.is_ok() {
                count += 1;
            }
            return self.0.call(&["SELECT", "0"]).await.map(|_| format!("{count}"));
        }
        let (info, line) = (self.0.call(&["INFO"]).await?.concat(), format!("{}:", name.replace('-', "_")));
        let value = info.lines().find_map(|found| found.strip_prefix(&line));
        value.map(str::to_owned).ok_or_else(|| Error::not_found("the server does not tell it"))
    }
}
