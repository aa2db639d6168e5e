//! The facade: [`Trove`] is the only entry point for embedders.
//!
//! It validates a request, writes the instance and the first journal row of the operation in one
//! transaction, and returns a [handle](InstanceHandle). The operation runs in the background.

mod accounts;
mod builder;
mod configurations;
mod datastores;
mod instance;
mod keys;
mod new_instance;
mod operation;
mod uri;

use std::sync::Arc;

use tokio::{sync::Mutex, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use accounts::{InstanceAccounts, Root};
pub use builder::{Builder, RequestLimits};
pub use configurations::{Configurations, NewConfiguration};
pub use datastores::{Datastores, NewVersion, VersionChange};
pub use instance::InstanceHandle;
pub use new_instance::NewInstance;
pub use operation::OperationHandle;
pub use uri::ConnectionUri;

pub use crate::flow::EngineSettings;

use crate::{
    datastore::Manifest,
    error::{Error, Result},
    events::{EventStream, Events},
    flow::{Engine, Flow},
    guest::REPORT_EXPIRES,
    id::{InstanceId, OperationId},
    lifecycle::{self, Action, State},
    model::{AssignedSettings, Condition, Event, EventKind, Flavor, Health, Instance, Operation, Problem},
    rpc::DropCounters,
    store::{InsertOutcome, NewOperation},
    taskmanager::{ControlPlane, CreateInstance, DeleteInstance},
    time::{Clock, elapsed},
};

/// How often a request is retried if the instance changes concurrently.
const MAX_RACES: usize = 8;

/// A running database service. Cheap to clone; [`shut_down`](Self::shut_down) stops it and leaves
/// the databases running.
#[derive(Clone)]
pub struct Trove(Arc<TroveInner>);

struct TroveInner {
    control: Arc<ControlPlane>,
    engine: Engine<ControlPlane>,
    manifests: Vec<Manifest>,
    flavors: Vec<Flavor>,
    limits: RequestLimits,
    clock: Clock,
    events: Events,
    shutdown: CancellationToken,
    // Cancelled after the last guest has stopped reporting.
    reports_closed: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    // Stop the background tasks if the last handle is dropped without a shutdown.
    _stop: (DropGuard, DropGuard),
}

impl Trove {
    /// Returns a builder for a service.
    ///
    /// ```
    /// # #[cfg(feature = "conformance")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let world = trove_core::conformance::memory::World::new();
    /// use trove_core::{Trove, model::{Flavor, mib}};
    ///
    /// let trove = Trove::builder()
    ///     .store("sqlite::memory:")
    ///     .platform(world.platform())
    ///     .datastore(world.driver())
    ///     .flavor(Flavor::new("small", mib(512), 1))
    ///     .start()
    ///     .await?;
    /// assert_eq!(trove.flavors()[0].name, "small");
    /// # trove.shut_down().await;
    /// # Ok::<_, trove_core::error::Error>(()) }).unwrap();
    /// ```
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Requests a new instance and returns its creation, which runs in the background.
    ///
    /// Names are labels: two instances may have the same name. The request is idempotent by its
    /// [id](NewInstance::id): a repeated request returns the creation of the first one.
    ///
    /// ```
    /// # #[cfg(feature = "conformance")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let world = trove_core::conformance::memory::World::new();
    /// # let trove = trove_core::Trove::builder()
    /// #     .store("sqlite::memory:")
    /// #     .platform(world.platform())
    /// #     .datastore(world.driver())
    /// #     .start()
    /// #     .await?;
    /// use trove_core::{control::NewInstance, model::gib};
    ///
    /// let new = NewInstance::new("orders", "memory").volume(gib(5)).database("app").user("app", "correct horse");
    /// let creation = trove.create(new.clone()).await?;
    /// let orders = creation.active().await?;
    /// assert_eq!(trove.create(new).await?.id(), creation.id());
    /// assert_eq!(orders.name, "orders");
    /// # trove.shut_down().await;
    /// # Ok::<_, trove_core::error::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::error::Kind::NotFound) for an unknown datastore, version or flavor,
    /// [`Invalid`](crate::error::Kind::Invalid) for an invalid name, password or size,
    /// [`Conflict`](crate::error::Kind::Conflict) if the id exists with another request. Nothing is
    /// created then.
    pub async fn create(&self, new: NewInstance) -> Result<OperationHandle> {
        let request = new.request();
        if let Some(joined) = self.0.control.store.creation(new.id, &request).await? {
            return Ok(self.handle(joined, new.id, CreateInstance::KIND));
        }
        let datastores = self.datastores();
        let version = datastores.choose(&new.datastore, new.version.as_deref()).await?;
        let manifest = datastores.manifest(&new.datastore)?;
        let instance = new.validate(manifest, &version, &self.0.flavors, &self.0.limits, self.0.clock.now())?;
        let mut flow = CreateInstance::new(instance.id, new.databases, &new.users, &self.0.control.keys)?;
        if let Some(group) = instance.configuration {
            let group = self.configurations().for_instance(group, &instance).await?;
            flow = flow.settings(AssignedSettings::from(&group));
        }
        let operation = flow.begin(OperationId::new_v4())?;
        for _ in 0..MAX_RACES {
            match self.0.control.store.insert_instance(&instance, &request, &operation).await? {
                InsertOutcome::Inserted => {
                    self.publish(instance.id, EventKind::State { state: State::Build });
                    self.0.engine.announce();
                    return Ok(self.handle(operation.id, instance.id, operation.kind));
                }
                InsertOutcome::Existing(joined) => return Ok(self.handle(joined, instance.id, operation.kind)),
                InsertOutcome::StateChanged => {}
            }
        }
        Err(changed_concurrently())
    }

    /// Returns an instance; [`NotFound`](crate::error::Kind::NotFound) if it does not exist.
    pub async fn instance(&self, id: InstanceId) -> Result<InstanceHandle> {
        Ok(InstanceHandle::new(self.clone(), self.read(id).await?))
    }

    /// Returns up to `limit` instances of one project or of all in order of creation, starting
    /// behind `after`.
    pub async fn instances(
        &self,
        project: Option<&str>,
        after: Option<&Instance>,
        limit: u32,
    ) -> Result<Vec<InstanceHandle>> {
        let found = self.0.control.store.instances(project, after, limit).await?;
        Ok(found.into_iter().map(|instance| InstanceHandle::new(self.clone(), self.expire_health(instance))).collect())
    }

    /// Returns an operation; [`NotFound`](crate::error::Kind::NotFound) if it does not exist or its
    /// instance was deleted.
    pub async fn operation(&self, id: OperationId) -> Result<OperationHandle> {
        let operation = self.read_operation(id).await?;
        Ok(self.handle(id, operation.instance, &operation.kind))
    }

    /// Returns the operations on an instance in the order in which they were requested.
    pub async fn operations(&self, instance: InstanceId) -> Result<Vec<Operation>> {
        self.0.control.store.operations(instance).await
    }

    /// Subscribes to events. Subscribe before a request to receive all of its events.
    pub fn events(&self) -> EventStream {
        self.0.events.subscribe()
    }

    /// Returns the counters of received frames that the service, or guests in its process, dropped
    /// since the start: forged, modified, replayed or malformed frames. The returned counters are
    /// live.
    ///
    /// ```
    /// # async fn example(trove: trove_core::Trove) {
    /// use trove_core::rpc::DropReason;
    ///
    /// for reason in DropReason::ALL {
    ///     println!("trove_dropped_frames{{reason=\"{reason:?}\"}} {}", trove.dropped_frames().count(reason));
    /// }
    /// # }
    /// ```
    pub fn dropped_frames(&self) -> DropCounters {
        self.0.control.guests.drops()
    }

    /// Returns the offered datastores and the registry of their versions.
    pub fn datastores(&self) -> Datastores {
        Datastores::new(self.clone())
    }

    /// Returns the configuration groups.
    pub fn configurations(&self) -> Configurations {
        Configurations::new(self.clone())
    }

    /// Returns the offered flavors, the default first.
    pub fn flavors(&self) -> &[Flavor] {
        &self.0.flavors
    }

    /// Shuts the service down: lets running steps reach a point from which the next start resumes,
    /// stops the agents, writes their last reports and closes the store. The databases keep
    /// running.
    pub async fn shut_down(&self) {
        self.0.shutdown.cancel();
        self.0.engine.shut_down().await;
        self.0.control.scratch_servers.shut_down().await;
        self.0.control.guests.shut_down().await;
        self.0.reports_closed.cancel();
        for task in self.0.tasks.lock().await.drain(..) {
            // The panic of a task was logged.
            let _ = task.await;
        }
        self.0.events.close();
        self.0.control.store.close().await;
    }

    async fn begin(&self, instance: InstanceId, action: Action, operation: NewOperation) -> Result<OperationHandle> {
        for _ in 0..MAX_RACES {
            let Instance { state: from, epoch, .. } = self.read(instance).await?;
            let to = lifecycle::admit(from, action)?;
            if operation.expected_epoch.is_some_and(|seen| seen != epoch) {
                // The request was decided on a former state of the instance; the caller decides
                // again.
                return Err(changed_concurrently());
            }
            let supersede = action == Action::Delete;
            let now = self.0.clock.now();
            let outcome =
                self.0.control.store.begin_operation(instance, (from, to), &operation, supersede, now).await?;
            match outcome {
                InsertOutcome::Inserted => {
                    self.publish(instance, EventKind::State { state: to });
                    self.0.engine.announce();
                    if supersede && let Ok(operations) = self.operations(instance).await {
                        operations.iter().for_each(|running| self.0.engine.nudge(running.id));
                    }
                    return Ok(self.handle(operation.id, instance, operation.kind));
                }
                InsertOutcome::Existing(joined) => return Ok(self.handle(joined, instance, operation.kind)),
                InsertOutcome::StateChanged => {}
            }
        }
        Err(changed_concurrently())
    }

    async fn read(&self, id: InstanceId) -> Result<Instance> {
        let found = self.0.control.store.instance(id).await?;
        found
            .map(|instance| self.expire_health(instance))
            .ok_or_else(|| Error::not_found(format!("instance {id} does not exist")))
    }

    async fn read_operation(&self, id: OperationId) -> Result<Operation> {
        let found = self.0.control.store.operation(id).await?;
        found.ok_or_else(|| Error::not_found(format!("operation {id} does not exist")))
    }

    /// Sets the health to unknown if the last report has expired.
    fn expire_health(&self, mut instance: Instance) -> Instance {
        let now = self.0.clock.now();
        // A report from the future was made before the clock was set back.
        let age = |at| elapsed(at, now).max(elapsed(now, at));
        let expired = instance.reported_at.is_none_or(|at| age(at) >= REPORT_EXPIRES);
        if expired && lifecycle::should_serve(instance.state) {
            let message = "the guest agent of the instance has not reported recently";
            instance.health = Health::Unknown(Problem::new(Condition::NoReport, message));
        }
        instance
    }

    fn handle(&self, operation: OperationId, instance: InstanceId, kind: &str) -> OperationHandle {
        OperationHandle::new(self.clone(), operation, instance, kind == DeleteInstance::KIND)
    }

    fn publish(&self, instance: InstanceId, kind: EventKind) {
        self.0.events.publish(Event::new(self.0.clock.now(), instance, kind));
    }
}

fn changed_concurrently() -> Error {
    Error::busy("the instance was changed concurrently")
}
