use std::time::Duration;

use super::{InstanceHandle, Trove};
use crate::{
    error::{Error, Kind, Result},
    events::EventStream,
    id::{InstanceId, OperationId},
    model::{EventKind, Operation, OperationError, OperationStatus, Status},
};

/// The polling interval of the journal, because an event may precede the subscription.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The deadline for a healthy report after an operation.
const REPORT_DEADLINE: Duration = Duration::from_secs(60);

/// A handle of an operation. Dropping it does not affect the operation.
#[derive(Clone)]
pub struct OperationHandle {
    trove: Trove,
    id: OperationId,
    instance: InstanceId,
    deletes: bool,
}

impl OperationHandle {
    pub(super) fn new(trove: Trove, id: OperationId, instance: InstanceId, deletes: bool) -> Self {
        Self { trove, id, instance, deletes }
    }

    /// Returns the id of the operation.
    pub fn id(&self) -> OperationId {
        self.id
    }

    /// Returns the id of the instance.
    pub fn instance_id(&self) -> InstanceId {
        self.instance
    }

    /// Returns the operation as recorded; [`NotFound`](Kind::NotFound) after its instance was
    /// deleted.
    pub async fn status(&self) -> Result<Operation> {
        self.trove.read_operation(self.id).await
    }

    /// Waits until the operation has ended.
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
    /// # let new = trove_core::control::NewInstance::new("orders", "memory").database("app").user("app", "correct horse");
    /// # let orders = trove.create(new).await?.active().await?;
    /// orders.stop().await?.wait().await?;
    /// orders.delete().await?.wait().await?;
    /// assert!(trove.instances(None, None, 10).await?.is_empty());
    /// # trove.shut_down().await;
    /// # Ok::<_, trove_core::error::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// The error of a failed operation; [`Cancelled`](Kind::Cancelled) if the operation was
    /// cancelled or its instance was deleted.
    pub async fn wait(&self) -> Result<()> {
        let mut events = self.trove.events();
        loop {
            match self.status().await {
                Ok(operation) if operation.status.is_final() => return outcome(&operation),
                Ok(_) => {}
                // A deletion removes the journal of the instance.
                Err(error) if error.kind() == Kind::NotFound && self.deletes => return Ok(()),
                Err(error) if error.kind() == Kind::NotFound => {
                    return Err(Error::cancelled("the instance was deleted"));
                }
                // The store may be unavailable temporarily.
                Err(error) if error.is_transient() && !self.trove.0.shutdown.is_cancelled() => {}
                Err(error) => return Err(error),
            }
            self.next_change(&mut events).await;
        }
    }

    /// Waits until the operation has ended and the server is reported healthy, and returns the
    /// instance.
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
    /// use trove_core::{control::NewInstance, model::Status};
    ///
    /// let orders = trove.create(NewInstance::new("orders", "memory")).await?.active().await?;
    /// assert_eq!(orders.status(), Status::Active);
    /// # trove.shut_down().await;
    /// # Ok::<_, trove_core::error::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait); [`Unavailable`](Kind::Unavailable) if the server is not
    /// reported healthy within a minute.
    pub async fn active(&self) -> Result<InstanceHandle> {
        self.wait().await?;
        let mut events = self.trove.events();
        let deadline = tokio::time::Instant::now() + REPORT_DEADLINE;
        let mut instance = self.trove.instance(self.instance).await.map_err(|error| match error.kind() {
            Kind::NotFound => Error::cancelled("the instance was deleted"),
            _ => error,
        })?;
        while instance.status() != Status::Active {
            if tokio::time::timeout_at(deadline, self.next_change(&mut events)).await.is_err() {
                let reason = instance.reason().unwrap_or("the reason is unknown").to_owned();
                return Err(Error::unavailable(format!("the instance is {}: {reason}", instance.status())));
            }
            instance.refresh().await?;
        }
        Ok(instance)
    }

    /// Requests the cancellation of the operation, which is then undone. An irreversible operation,
    /// such as a deletion, continues.
    ///
    /// [`Conflict`](Kind::Conflict) if the operation has ended.
    pub async fn cancel(&self) -> Result<()> {
        if !self.trove.0.control.store.cancel_operation(self.id).await? {
            return Err(Error::conflict("the operation has ended"));
        }
        self.trove.0.engine.nudge(self.id);
        Ok(())
    }

    /// Resumes a stuck operation. [`Conflict`](Kind::Conflict) if it is not stuck.
    pub async fn resume(&self) -> Result<()> {
        if !self.trove.0.control.store.resume_operation(self.id, self.trove.0.clock.now()).await? {
            return Err(Error::conflict("the operation is not stuck"));
        }
        self.trove.0.engine.announce();
        Ok(())
    }

    /// Abandons a stuck operation, after which its instance can only be deleted.
    /// [`Conflict`](Kind::Conflict) if it is not stuck.
    pub async fn abandon(&self) -> Result<()> {
        if !self.trove.0.control.store.abandon_operation(self.id, self.trove.0.clock.now()).await? {
            return Err(Error::conflict("the operation is not stuck"));
        }
        Ok(())
    }

    /// Waits for an event that may concern the end of the operation or the health of its instance,
    /// or for the polling interval.
    async fn next_change(&self, events: &mut EventStream) {
        let change = async {
            while let Some(event) = events.next().await {
                let relevant = match event.kind {
                    EventKind::Ended { operation, .. } => operation == self.id,
                    EventKind::Deleted | EventKind::Health { .. } | EventKind::State { .. } => true,
                    _ => false,
                };
                if relevant && event.instance == self.instance {
                    return;
                }
            }
            // The service has shut down and publishes no more events.
            std::future::pending::<()>().await;
        };
        let _ = tokio::time::timeout(POLL_INTERVAL, change).await;
    }
}

fn outcome(operation: &Operation) -> Result<()> {
    let unknown = || OperationError::new(Kind::Internal, "no reason was recorded");
    let error = || operation.error.clone().unwrap_or_else(unknown);
    match operation.status {
        OperationStatus::Running | OperationStatus::Undoing | OperationStatus::Succeeded => Ok(()),
        OperationStatus::Failed => Err(error().into()),
        OperationStatus::Stuck => {
            let OperationError { kind, message } = error();
            Err(Error::of(kind, format!("the operation is stuck: {message}")))
        }
        OperationStatus::Cancelled => Err(Error::cancelled("the operation was cancelled")),
    }
}
