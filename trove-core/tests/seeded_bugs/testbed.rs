//! Servers in memory whose sessions and logs may have a bug, too.

use std::sync::Arc;

use async_trait::async_trait;
use trove_core::{
    conformance::{
        driver::{Harm, Login, Pace, Samples, Session, Testbed, Trace},
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
    inner: Box<dyn Session>,
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

    async fn place(&self) -> Result<GuestHost> {
        self.inner.place().await
    }

    async fn clear(&self, host: &GuestHost) -> Result<()> {
        self.inner.clear(host).await
    }

    async fn residue(&self, host: &GuestHost) -> Result<Vec<String>> {
        self.inner.residue(host).await
    }

    async fn connect(&self, host: &GuestHost, login: &Login) -> Result<Box<dyn Session>> {
        let mut login = login.clone();
        if let Some(present) = self.faults.present_password(&login.user, &login.password) {
            login.password = present;
        }
        let inner = self.inner.connect(host, &login).await?;
        Ok(Box::new(FaultySession { inner, faults: self.faults.clone() }))
    }

    async fn harm(&self, host: &GuestHost, harm: Harm) -> Result<()> {
        self.inner.harm(host, harm).await
    }

    async fn traces(&self, host: &GuestHost) -> Result<Vec<Trace>> {
        let mut traces = self.inner.traces(host).await?;
        let content = self.faults.log().into_bytes();
        traces.push(Trace { place: "the driver's log".to_owned(), content });
        Ok(traces)
    }

    fn samples(&self) -> Samples {
        self.inner.samples()
    }

    fn upgrade(&self) -> Option<Release> {
        self.inner.upgrade()
    }

    fn pace(&self) -> Pace {
        self.inner.pace()
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
impl Session for FaultySession {
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

    async fn whoami(&mut self) -> Result<(String, Option<String>)> {
        self.inner.whoami().await
    }

    async fn parameter(&mut self, name: &str) -> Result<String> {
        self.inner.parameter(name).await
    }
}
