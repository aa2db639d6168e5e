//! Servers in memory whose sessions and logs may have a bug, too.

use std::sync::Arc;

use async_trait::async_trait;
use trove_core::{
    conformance::{
        driver::{Artifact, ClientLogin, ClientSession, Fault, SampleSettings, SuiteOptions, Testbed},
        memory::{MemoryTestbed, World},
    },
    datastore::{Driver, GuestHost, Release},
    error::{Kind, Result},
};

use crate::{
    bugs::Bug,
    driver::{Faults, FaultyDriver},
};

/// A testbed of a driver with a bug.
pub(crate) struct FaultyTestbed {
    inner: MemoryTestbed,
    faults: Arc<Faults>,
}

/// A session that may outlive what should end it.
struct FaultySession {
    inner: Box<dyn ClientSession>,
    faults: Arc<Faults>,
}

impl FaultyTestbed {
    pub(crate) fn new(bug: Bug) -> Self {
        let (world, faults) = (World::new(), Arc::new(Faults::new(bug)));
        let driver = FaultyDriver::new(world.driver(), faults.clone());
        Self { inner: world.testbed_for(Arc::new(driver)), faults }
    }
}

#[async_trait]
impl Testbed for FaultyTestbed {
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
        if let Some(present) = self.faults.present_password(&login.user, &login.password) {
            login.password = present;
        }
        let inner = self.inner.connect(host, &login).await?;
        Ok(Box::new(FaultySession { inner, faults: self.faults.clone() }))
    }

    async fn inject(&self, host: &GuestHost, fault: Fault) -> Result<()> {
        self.inner.inject(host, fault).await
    }

    async fn artifacts(&self, host: &GuestHost) -> Result<Vec<Artifact>> {
        let mut artifacts = self.inner.artifacts(host).await?;
        let content = self.faults.log().into_bytes();
        artifacts.push(Artifact { location: "the driver's log".to_owned(), content });
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

impl FaultySession {
    /// What a session does that has ended and does not know.
    fn answer<T>(&self, answer: Result<T>, otherwise: T) -> Result<T> {
        match answer {
            Err(error) if error.kind() == Kind::Unavailable && self.faults.sessions_stay() => Ok(otherwise),
            answer => answer,
        }
    }
}

#[async_trait]
impl ClientSession for FaultySession {
    async fn put(&mut self, name: &str, text: &str) -> Result<()> {
        let answer = self.inner.put(name, text).await;
        if self.faults.sessions_end() {
            return Err(trove_core::error::Error::unavailable("the session has ended"));
        }
        self.answer(answer, ())
    }

    async fn get(&mut self, name: &str) -> Result<Option<String>> {
        let answer = self.inner.get(name).await;
        self.answer(answer, None)
    }

    async fn current_user(&mut self) -> Result<(String, Option<String>)> {
        self.inner.current_user().await
    }

    async fn parameter(&mut self, name: &str) -> Result<String> {
        self.inner.parameter(name).await
    }
}
