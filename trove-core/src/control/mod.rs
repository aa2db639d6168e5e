//! The facade: [`Trove`] is the only way in, for embedders and for the services built on them.
//!
//! It validates, writes the instance and the first journal row of the operation in one transaction, and hands out
//! [handles](InstanceHandle). Everything else happens behind it.

mod accounts;
mod builder;
mod configurations;
mod datastores;
mod instance;
mod keys;
mod new_instance;
mod operation;
mod uri;

use std::{sync::Arc, time::Duration};

use tokio::{sync::Mutex, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use accounts::{Accounts, Root};
pub use builder::{Builder, Limits};
pub use configurations::{Configurations, NewConfiguration};
pub use datastores::{Datastores, NewVersion, VersionChange};
pub use instance::InstanceHandle;
pub use new_instance::NewInstance;
pub use operation::OperationHandle;
pub use uri::ConnectionUri;

use crate::{
    datastore::Manifest,
    error::{Error, Result},
    events::{EventStream, Events},
    flow::{Engine, Flow},
    id::{InstanceId, OperationId},
    lifecycle::{self, Action, State},
    model::{Condition, Event, EventKind, Flavor, GivenSettings, Health, Instance, Operation, Problem},
    rpc::Refusals,
    store::{Admitted, NewOperation},
    taskmanager::{ControlPlane, CreateInstance, DeleteInstance},
    time::{Clock, elapsed},
};

/// A guest that has not reported for this long is not known to be well.
const REPORT_EXPIRES: Duration = Duration::from_secs(30);
/// How often a request looks again when the instance changes under it.
const RACES: usize = 8;

/// A running database service. Cheap to clone; [`shut_down`](Self::shut_down) ends it, the databases go on.
#[derive(Clone)]
pub struct Trove(Arc<Inner>);

struct Inner {
    control: Arc<ControlPlane>,
    engine: Engine<ControlPlane>,
    manifests: Vec<Manifest>,
    flavors: Vec<Flavor>,
    limits: Limits,
    clock: Clock,
    events: Events,
    shutdown: CancellationToken,
    // Cancelled when nobody reports any more.
    last_words: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    // End what runs in the background when the last handle goes without a shutdown.
    _stop: (DropGuard, DropGuard),
}

impl Trove {
    /// Begins to put a service together.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Asks for a new instance and returns at once with its creation under way.
    ///
    /// Names are labels: two instances may share one. Ids identify: asked twice for the same
    /// [id](NewInstance::id), the second joins the creation of the first.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::error::Kind::NotFound) for a datastore, version or flavor there is not, [`Invalid`](crate::error::Kind::Invalid) for
    /// names, passwords and sizes that cannot be, [`Conflict`](crate::error::Kind::Conflict) for an id asked for differently before.
    /// Nothing has been made then.
    pub async fn create(&self, new: NewInstance) -> Result<OperationHandle> {
        let request = new.request();
        if let Some(joined) = self.0.control.store.creation(new.id, &request).await? {
            return Ok(self.handle(joined, new.id, CreateInstance::KIND));
        }
        let datastores = self.datastores();
        let version = datastores.choose(&new.datastore, new.version.as_deref()).await?;
        let manifest = datastores.manifest(&new.datastore)?;
        let instance = new.admit(manifest, &version, &self.0.flavors, &self.0.limits, self.0.clock.now())?;
        let mut flow = CreateInstance::new(instance.id, new.databases, &new.users, &self.0.control.keys)?;
        if let Some(group) = instance.configuration {
            let group = self.configurations().for_instance(group, &instance).await?;
            flow = flow.settings(GivenSettings::from(&group));
        }
        let operation = flow.begin(OperationId::new_v4())?;
        for _ in 0..RACES {
            match self.0.control.store.insert_instance(&instance, &request, &operation).await? {
                Admitted::Begun => {
                    self.publish(instance.id, EventKind::State { state: State::Build });
                    self.0.engine.announce();
                    return Ok(self.handle(operation.id, instance.id, operation.kind));
                }
                Admitted::Joined(joined) => return Ok(self.handle(joined, instance.id, operation.kind)),
                Admitted::Raced => {}
            }
        }
        Err(raced())
    }

    /// One instance; [`NotFound`](crate::error::Kind::NotFound) where there is none.
    pub async fn instance(&self, id: InstanceId) -> Result<InstanceHandle> {
        Ok(InstanceHandle::new(self.clone(), self.read(id).await?))
    }

    /// Instances in order of creation: of one project or of all, those behind `after`, `limit` at the most.
    pub async fn instances(
        &self,
        project: Option<&str>,
        after: Option<&Instance>,
        limit: u32,
    ) -> Result<Vec<InstanceHandle>> {
        let found = self.0.control.store.instances(project, after, limit).await?;
        Ok(found.into_iter().map(|instance| InstanceHandle::new(self.clone(), self.fresh(instance))).collect())
    }

    /// One operation; [`NotFound`](crate::error::Kind::NotFound) where there is none, or its instance is gone.
    pub async fn operation(&self, id: OperationId) -> Result<OperationHandle> {
        let operation = self.journal(id).await?;
        Ok(self.handle(id, operation.instance, &operation.kind))
    }

    /// The operations on an instance, in the order they were asked for.
    pub async fn operations(&self, instance: InstanceId) -> Result<Vec<Operation>> {
        self.0.control.store.operations(instance).await
    }

    /// All that happens from now on. Subscribe before you ask for something, to see all of it.
    pub fn events(&self) -> EventStream {
        self.0.events.subscribe()
    }

    /// How many frames were dropped that came for the service, or for guests in its process, since it was started: each was
    /// forged, changed, sent before or made no sense. What is returned goes on counting.
    ///
    /// ```
    /// # async fn example(trove: trove_core::Trove) {
    /// use trove_core::rpc::Refusal;
    ///
    /// for reason in Refusal::ALL {
    ///     println!("trove_refused_frames{{reason=\"{reason:?}\"}} {}", trove.refusals().count(reason));
    /// }
    /// # }
    /// ```
    pub fn refusals(&self) -> Refusals {
        self.0.control.guests.refusals()
    }

    /// The datastores on offer, and the registry of their versions.
    pub fn datastores(&self) -> Datastores {
        Datastores::new(self.clone())
    }

    /// The configuration groups.
    pub fn configurations(&self) -> Configurations {
        Configurations::new(self.clone())
    }

    /// The flavors on offer, the default first.
    pub fn flavors(&self) -> &[Flavor] {
        &self.0.flavors
    }

    /// Ends the service: lets running steps come to a point from which the next start goes on, ends the agents, writes
    /// what they reported last and closes the store. The databases go on.
    pub async fn shut_down(&self) {
        self.0.shutdown.cancel();
        self.0.engine.shut_down().await;
        self.0.control.trials.shut_down().await;
        self.0.control.guests.shut_down().await;
        self.0.last_words.cancel();
        for task in self.0.tasks.lock().await.drain(..) {
            // A task that panicked has said so already.
            let _ = task.await;
        }
        self.0.events.close();
        self.0.control.store.close().await;
    }

    async fn begin(&self, instance: InstanceId, action: Action, operation: NewOperation) -> Result<OperationHandle> {
        for _ in 0..RACES {
            let Instance { state: from, epoch, .. } = self.read(instance).await?;
            let to = lifecycle::admit(from, action)?;
            if operation.seen.is_some_and(|seen| seen != epoch) {
                // What was decided on is not any more; to decide anew is the caller's.
                return Err(raced());
            }
            let supersede = action == Action::Delete;
            let now = self.0.clock.now();
            let admitted =
                self.0.control.store.begin_operation(instance, (from, to), &operation, supersede, now).await?;
            match admitted {
                Admitted::Begun => {
                    self.publish(instance, EventKind::State { state: to });
                    self.0.engine.announce();
                    if supersede && let Ok(operations) = self.operations(instance).await {
                        operations.iter().for_each(|running| self.0.engine.nudge(running.id));
                    }
                    return Ok(self.handle(operation.id, instance, operation.kind));
                }
                Admitted::Joined(joined) => return Ok(self.handle(joined, instance, operation.kind)),
                Admitted::Raced => {}
            }
        }
        Err(raced())
    }

    async fn read(&self, id: InstanceId) -> Result<Instance> {
        let found = self.0.control.store.instance(id).await?;
        found.map(|instance| self.fresh(instance)).ok_or_else(|| Error::not_found(format!("there is no instance {id}")))
    }

    async fn journal(&self, id: OperationId) -> Result<Operation> {
        let found = self.0.control.store.operation(id).await?;
        found.ok_or_else(|| Error::not_found(format!("there is no operation {id}")))
    }

    /// Says that nothing is known where what is known is too old.
    fn fresh(&self, mut instance: Instance) -> Instance {
        let now = self.0.clock.now();
        // One from the future was made before the clock was set back.
        let age = |at| elapsed(at, now).max(elapsed(now, at));
        let expired = instance.reported_at.is_none_or(|at| age(at) >= REPORT_EXPIRES);
        if expired && lifecycle::should_serve(instance.state) {
            let message = "the instance's guest agent has not reported lately";
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

fn raced() -> Error {
    Error::busy("the instance is being changed by others")
}
