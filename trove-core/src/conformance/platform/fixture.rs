use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::Testbed;
use crate::{
    conformance::cancellation_points,
    datastore::GuestHost,
    error::Result,
    guest,
    id::InstanceId,
    model::{Endpoint, Instance},
    platform::{AgentSetup, Ensured, Placement, Platform},
    secret::ExposeSecret,
};

/// How long what is being deleted may take to be gone.
const WAIT_LIMIT: Duration = Duration::from_secs(120);
/// How often is looked for it.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// At how many of its awaits a call is dropped.
const DROPS: usize = 12;

/// One case on a platform: what it is done with.
pub struct PlatformFixture {
    testbed: Arc<dyn Testbed>,
    platform: Mutex<Option<Platform>>,
    made: Mutex<Vec<InstanceId>>,
}

impl PlatformFixture {
    pub(super) async fn open(testbed: Arc<dyn Testbed>) -> Result<Self> {
        let platform = Mutex::new(Some(testbed.open().await?));
        Ok(Self { testbed, platform, made: Mutex::default() })
    }

    /// Releases all that was made, and looks that nothing is left.
    pub(super) async fn release_all(&self) {
        self.reopen().await;
        let made = std::mem::take(&mut *lock(&self.made));
        for instance in &made {
            self.release(*instance).await;
            if let Some(agents) = self.testbed.agents() {
                agents.dismiss(*instance).await.unwrap();
            }
        }
        self.assert_no_leftovers().await;
    }

    /// What does things behind the platform's back.
    pub fn testbed(&self) -> &dyn Testbed {
        &*self.testbed
    }

    /// The platform, as this process has it. It is not kept over [`reopen`](Self::reopen).
    pub fn platform(&self) -> Platform {
        lock(&self.platform).clone().unwrap_or_else(|| panic!("the platform is being opened"))
    }

    /// Ends this process, as far as the platform can tell, and begins another.
    pub async fn reopen(&self) {
        *lock(&self.platform) = None;
        let opened = self.testbed.open().await;
        let opened = opened.unwrap_or_else(|error| panic!("the platform cannot be opened again: {error:?}"));
        *lock(&self.platform) = Some(opened);
    }

    /// One more instance. What it is given is released after the case.
    pub fn instance(&self) -> Instance {
        let mut instance = self.testbed.instance();
        if let Some(agents) = self.testbed.agents() {
            (instance.datastore, instance.version_number) = agents.release.clone();
        }
        lock(&self.made).push(instance.id);
        instance
    }

    /// Makes its volume.
    pub async fn volume(&self, instance: &Instance) {
        let platform = self.platform();
        ready("volume", || platform.volumes.ensure_volume(instance.id, instance.volume)).await;
    }

    /// Makes its endpoint.
    pub async fn endpoint(&self, instance: &Instance) -> Endpoint {
        let platform = self.platform();
        ready("endpoint", || platform.networks.ensure_endpoint(instance.id, instance.public)).await
    }

    /// Makes its place, which its volume and its endpoint are there for.
    pub async fn compute(&self, instance: &Instance, endpoint: &Endpoint) -> GuestHost {
        let platform = self.platform();
        let setup = self.setup(instance).await;
        let placed = ready("compute", || platform.compute.ensure_compute(instance, endpoint, setup.as_ref())).await;
        match placed {
            Placement::InProcess(host) => {
                assert!(setup.is_none(), "an agent elsewhere was asked for");
                *host
            }
            Placement::Remote => {
                assert!(setup.is_some(), "an agent elsewhere was not asked for");
                let told = self.testbed.configuration(instance.id).await;
                let host = told.and_then(|told| guest::host_of(told.expose_secret()));
                host.unwrap_or_else(|error| panic!("what the agent was told cannot be read: {error:?}"))
            }
        }
    }

    /// What its agent is told, where the platform is to run it elsewhere.
    pub(super) async fn setup(&self, instance: &Instance) -> Option<AgentSetup> {
        let setup = self.testbed.agents()?.setup(instance).await;
        Some(setup.unwrap_or_else(|error| panic!("the agent cannot be let in: {error:?}")))
    }

    /// Makes all three.
    pub async fn place(&self, instance: &Instance) -> GuestHost {
        self.volume(instance).await;
        let endpoint = self.endpoint(instance).await;
        self.compute(instance, &endpoint).await
    }

    /// Releases all that an instance may have.
    pub async fn release(&self, instance: InstanceId) {
        let platform = self.platform();
        let released = [
            platform.compute.release_compute(instance).await,
            platform.networks.release_endpoint(instance).await,
            platform.volumes.release_volume(instance).await,
        ];
        let failed: Vec<_> = released.into_iter().filter_map(Result::err).collect();
        assert!(failed.is_empty(), "it cannot be released: {failed:?}");
    }

    /// Looks that there is nothing on the platform, once calls that were dropped have come to their end.
    pub async fn assert_no_leftovers(&self) {
        let begun = Instant::now();
        loop {
            let leftovers = self.testbed.leftovers().await;
            let leftovers = leftovers.unwrap_or_else(|error| panic!("what is left cannot be told: {error:?}"));
            if leftovers.is_empty() {
                return;
            }
            assert!(begun.elapsed() < WAIT_LIMIT, "this is left: {}", leftovers.join(", "));
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Writes a text into the instance's volume.
    pub async fn put(&self, instance: &Instance, text: &str) {
        let put = self.testbed.put(instance.id, text).await;
        put.unwrap_or_else(|error| panic!("the volume cannot be written to: {error:?}"));
    }

    /// Reads what was written.
    pub async fn get(&self, instance: &Instance) -> Option<String> {
        let got = self.testbed.get(instance.id).await;
        got.unwrap_or_else(|error| panic!("the volume cannot be read: {error:?}"))
    }

    /// Makes a call to its end, and then again and again, dropped at one of its awaits after another. After each `check`
    /// looks whether anything was lost, and puts things back for the next.
    pub async fn drop_at_every_await<F: Future>(&self, call: impl FnMut() -> F, check: impl AsyncFnMut(usize)) {
        cancellation_points::drop_at_every_await(DROPS, call, check).await;
    }
}

/// Asks until it is there; the case's limit bounds that.
async fn ready<T, F: Future<Output = Result<Ensured<T>>>>(what: &str, mut ensure: impl FnMut() -> F) -> T {
    loop {
        match ensure().await {
            Ok(Ensured::Ready(ready)) => return ready,
            Ok(Ensured::Pending(pause)) => sleep(pause).await,
            Err(error) => panic!("{what}: {error:?}"),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
