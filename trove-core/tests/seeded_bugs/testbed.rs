//! A testbed whose sessions and logs take part in the seeded bug.

use std::sync::Arc;

use async_trait::async_trait;
use trove_core::{
    conformance::{
        driver::{Artifact, ClientLogin, ClientSession, DriverTestbed, SampleSettings, ServerFault, SuiteOptions},
        memory::{MemoryTestbed, World},
    },
    datastore::{Driver, GuestHost, Release},
    error::{Kind, Result},
};

use crate::{
    bugs::Bug,
    driver::{BuggyDriver, SeededBug},
};

/// A testbed for the driver with a seeded bug.
pub(crate) struct BuggyTestbed {
    inner: MemoryTestbed,
    seeded: Arc<SeededBug>,
}

/// A session that a bug can keep open or end.
struct BuggySession {
    inner: Box<dyn ClientSession>,
    seeded: Arc<SeededBug>,
}

impl BuggyTestbed {
    pub(crate) fn new(bug: Bug) -> Self {
        let (world, seeded) = (World::new(), Arc::new(SeededBug::new(bug)));
        let driver = BuggyDriver::new(world.driver(), seeded.clone());
        Self { inner: world.testbed_for(Arc::new(driver)), seeded }
    }
}

#[async_trait]
impl DriverTestbed for BuggyTestbed {
    fn driver(&self) -> &Arc<dyn Driver> {
        self.inner.driver()
    }

    async fn allocate(&self) -> Result<GuestHost> {
        self.inner.allocate().await
    }

    async fn release(&self, host: &GuestHost) -> Result<()> {
        self.inner.release(host).await
    }

    async fn leftovers(&self, host: &GuestHost) -> Result<Vec<String>> {
        self.inner.leftovers(host).await
    }

    async fn connect(&self, host: &GuestHost, login: &ClientLogin) -> Result<Box<dyn ClientSession>> {
        let mut login = login.clone();
        if let Some(current) = self.seeded.current_password(&login.user, &login.password) {
            login.password = current;
        }
        let inner = self.inner.connect(host, &login).await?;
        Ok(Box::new(BuggySession { inner, seeded: self.seeded.clone() }))
    }

    async fn inject(&self, host: &GuestHost, fault: ServerFault) -> Result<()> {
        self.inner.inject(host, fault).await
    }

    async fn artifacts(&self, host: &GuestHost) -> Result<Vec<Artifact>> {
        let mut artifacts = self.inner.artifacts(host).await?;
        let content = self.seeded.log().into_bytes();
        artifacts.push(Artifact { location: "driver log".to_owned(), content });
        Ok(artifacts)
    }

    fn sample_settings(&self) -> SampleSettings {
        self.inner.sample_settings()
    }

    fn upgrade_target(&self) -> Option<Release> {
        self.inner.upgrade_target()
    }

    fn options(&self) -> SuiteOptions {
        self.inner.options()
    }
}

impl BuggySession {
    /// Replaces the error of an ended session by a value, if the bug keeps sessions open.
    fn keep_open<T>(&self, result: Result<T>, value: T) -> Result<T> {
        match result {
            Err(error) if error.kind() == Kind::Unavailable && self.seeded.sessions_never_end() => Ok(value),
            result => result,
        }
    }
}

#[async_trait]
impl ClientSession for BuggySession {
    async fn put(&mut self, name: &str, text: &str) -> Result<()> {
        let result = self.inner.put(name, text).await;
        if self.seeded.sessions_fail() {
            return Err(trove_core::error::Error::unavailable("the session has ended"));
        }
        self.keep_open(result, ())
    }

    async fn get(&mut self, name: &str) -> Result<Option<String>> {
        let result = self.inner.get(name).await;
        self.keep_open(result, None)
    }

    async fn current_user(&mut self) -> Result<(String, Option<String>)> {
        self.inner.current_user().await
    }

    async fn parameter(&mut self, name: &str) -> Result<String> {
        self.inner.parameter(name).await
    }
}
