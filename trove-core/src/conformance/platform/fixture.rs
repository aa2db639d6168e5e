use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::PlatformTestbed;
use crate::{
    conformance::cancellation_points,
    datastore::GuestHost,
    error::Result,
    guest,
    id::InstanceId,
    model::{Endpoint, Instance},
    platform::{AgentSetup, EndpointRequest, Ensured, Placement, Platform},
    secret::ExposeSecret,
};

/// How long a deletion may take.
const DELETION_TIMEOUT: Duration = Duration::from_secs(120);
/// The interval at which leftovers are listed.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The port that endpoints are requested with.
const PORT: u16 = 7770;
/// The maximum number of awaits at which a call is dropped.
const CANCELLATION_POINTS: usize = 12;

/// The platform of one case, and the instances that the case created.
pub(in crate::conformance) struct PlatformFixture {
    testbed: Arc<dyn PlatformTestbed>,
    platform: Mutex<Option<Platform>>,
    created: Mutex<Vec<InstanceId>>,
}

impl PlatformFixture {
    pub(super) async fn open(testbed: Arc<dyn PlatformTestbed>) -> Result<Self> {
        let platform = Mutex::new(Some(testbed.open().await?));
        Ok(Self { testbed, platform, created: Mutex::default() })
    }

    /// Releases the resources of all instances, and asserts that nothing is left.
    pub(super) async fn release_all(&self) {
        self.reopen().await;
        let created = std::mem::take(&mut *self.created.lock());
        for instance in &created {
            self.release(*instance).await;
            if let Some(agents) = self.testbed.agents() {
                agents.revoke(*instance).await.unwrap();
            }
        }
        self.assert_no_leftovers().await;
    }

    /// Returns the testbed of the platform.
    pub(super) fn testbed(&self) -> &dyn PlatformTestbed {
        &*self.testbed
    }

    /// Returns the platform as the current process opened it. Do not keep it across
    /// [`reopen`](Self::reopen).
    pub(super) fn platform(&self) -> Platform {
        self.platform.lock().clone().unwrap_or_else(|| panic!("the platform is being opened"))
    }

    /// Simulates a restart: drops the platform and opens it as a new process.
    pub(super) async fn reopen(&self) {
        *self.platform.lock() = None;
        let opened = self.testbed.open().await;
        let opened = opened.unwrap_or_else(|error| panic!("could not reopen the platform: {error:?}"));
        *self.platform.lock() = Some(opened);
    }

    /// Returns a new instance. Its resources are released after the case.
    pub(super) fn instance(&self) -> Instance {
        let mut instance = self.testbed.instance();
        if let Some(agents) = self.testbed.agents() {
            (instance.datastore, instance.version_number) = agents.release.clone();
        }
        self.created.lock().push(instance.id);
        instance
    }

    /// Ensures its volume.
    pub(super) async fn ensure_volume(&self, instance: &Instance) {
        let platform = self.platform();
        ready("volume", || platform.volumes.ensure_volume(instance.id, instance.volume)).await;
    }

    /// Ensures its endpoint.
    pub(super) async fn ensure_endpoint(&self, instance: &Instance) -> Endpoint {
        let platform = self.platform();
        let request = EndpointRequest { public: instance.public, port: PORT };
        ready("endpoint", || platform.networks.ensure_endpoint(instance.id, request)).await
    }

    /// Ensures its compute. Requires its volume and endpoint.
    pub(super) async fn ensure_compute(&self, instance: &Instance, endpoint: &Endpoint) -> GuestHost {
        let platform = self.platform();
        let setup = self.setup(instance).await;
        let placed = ready("compute", || platform.compute.ensure_compute(instance, endpoint, setup.as_ref())).await;
        match placed {
            Placement::InProcess(host) => {
                assert!(setup.is_none(), "the platform ignored the setup of a remote agent");
                *host
            }
            Placement::Remote => {
                assert!(setup.is_some(), "the platform runs an agent that was not requested");
                let config = self.testbed.agent_config(instance.id).await;
                let host = config.and_then(|config| guest::host_of(config.expose_secret()));
                host.unwrap_or_else(|error| panic!("could not read the configuration of the agent: {error:?}"))
            }
        }
    }

    /// Returns the setup of its agent, if the platform runs agents remotely.
    pub(super) async fn setup(&self, instance: &Instance) -> Option<AgentSetup> {
        let setup = self.testbed.agents()?.setup(instance).await;
        Some(setup.unwrap_or_else(|error| panic!("could not set up the agent: {error:?}")))
    }

    /// Ensures its volume, endpoint and compute.
    pub(super) async fn provision(&self, instance: &Instance) -> GuestHost {
        self.ensure_volume(instance).await;
        let endpoint = self.ensure_endpoint(instance).await;
        self.ensure_compute(instance, &endpoint).await
    }

    /// Releases all resources that an instance may have.
    pub(super) async fn release(&self, instance: InstanceId) {
        let platform = self.platform();
        let released = [
            platform.compute.release_compute(instance).await,
            platform.networks.release_endpoint(instance).await,
            platform.volumes.release_volume(instance).await,
        ];
        let failed: Vec<_> = released.into_iter().filter_map(Result::err).collect();
        assert!(failed.is_empty(), "could not release instance {instance}: {failed:?}");
    }

    /// Asserts that the platform is empty, once dropped calls have ended.
    pub(super) async fn assert_no_leftovers(&self) {
        let started = Instant::now();
        loop {
            let leftovers = self.testbed.leftovers().await;
            let leftovers = leftovers.unwrap_or_else(|error| panic!("could not list the resources: {error:?}"));
            if leftovers.is_empty() {
                return;
            }
            assert!(started.elapsed() < DELETION_TIMEOUT, "resources are left: {}", leftovers.join(", "));
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Writes a text into the instance's volume.
    pub(super) async fn write_volume(&self, instance: &Instance, text: &str) {
        let written = self.testbed.write_volume(instance.id, text).await;
        written.unwrap_or_else(|error| panic!("could not write to the volume: {error:?}"));
    }

    /// Returns the text that was written; `None` if there is none.
    pub(super) async fn read_volume(&self, instance: &Instance) -> Option<String> {
        let read = self.testbed.read_volume(instance.id).await;
        read.unwrap_or_else(|error| panic!("could not read the volume: {error:?}"))
    }

    /// Completes a call, and then repeats it, dropped at one await after another. After each
    /// repetition `check` asserts that nothing was lost, and restores the state for the next.
    pub(super) async fn drop_at_every_await<F: Future>(&self, call: impl FnMut() -> F, check: impl AsyncFnMut(usize)) {
        cancellation_points::drop_at_every_await(CANCELLATION_POINTS, call, check).await;
    }
}

/// Polls until the resource is ready, bounded by the time limit of the case.
async fn ready<T, F: Future<Output = Result<Ensured<T>>>>(what: &str, mut ensure: impl FnMut() -> F) -> T {
    loop {
        match ensure().await {
            Ok(Ensured::Ready(ready)) => return ready,
            Ok(Ensured::Pending(pause)) => sleep(pause).await,
            Err(error) => panic!("{what}: {error:?}"),
        }
    }
}
