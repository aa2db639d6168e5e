use std::time::Duration;

use super::{InstanceHandle, Trove};
use crate::{
    error::{Error, Kind, Result},
    events::EventStream,
    id::{InstanceId, OperationId},
    model::{EventKind, Operation, OperationError, OperationStatus, Status},
};

/// How often to look at the journal where no event tells: it may have come before the subscription.
const POLL: Duration = Duration::from_secs(1);
/// How long a finished operation's server may take to be reported healthy.
const REPORT_PATIENCE: Duration = Duration::from_secs(60);

/// An operation under way. Dropping it changes nothing: the operation goes on.
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

    /// The operation.
    pub fn id(&self) -> OperationId {
        self.id
    }

    /// The instance it is about.
    pub fn instance_id(&self) -> InstanceId {
        self.instance
    }

    /// How far it is; [`NotFound`](Kind::NotFound) once its instance is gone.
    pub async fn status(&self) -> Result<Operation> {
        self.trove.journal(self.id).await
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// What made it fail; [`Cancelled`](Kind::Cancelled) where it was cancelled or its instance was deleted meanwhile.
    pub async fn wait(&self) -> Result<()> {
        let mut events = self.trove.events();
        loop {
            match self.status().await {
                Ok(operation) if operation.status.is_final() => return outcome(&operation),
                Ok(_) => {}
                // The end of a deletion takes the journal along, its own and that of what it ended.
                Err(error) if error.kind() == Kind::NotFound && self.deletes => return Ok(()),
                Err(error) if error.kind() == Kind::NotFound => {
                    return Err(Error::cancelled("the instance was deleted"));
                }
                // The store may be away for a moment; the operation goes on when it is back.
                Err(error) if error.is_transient() && !self.trove.0.shutdown.is_cancelled() => {}
                Err(error) => return Err(error),
            }
            self.next_sign(&mut events).await;
        }
    }

    /// Waits for its end and for its server to be seen serving, and returns the instance.
    ///
    /// # Errors
    ///
    /// What [`wait`](Self::wait) says; [`Unavailable`](Kind::Unavailable) where the server is not seen serving within
    /// a minute.
    pub async fn active(&self) -> Result<InstanceHandle> {
        self.wait().await?;
        let mut events = self.trove.events();
        let deadline = tokio::time::Instant::now() + REPORT_PATIENCE;
        let mut instance = self.trove.instance(self.instance).await.map_err(|error| match error.kind() {
            Kind::NotFound => Error::cancelled("the instance was deleted"),
            _ => error,
        })?;
        while instance.status() != Status::Active {
            if tokio::time::timeout_at(deadline, self.next_sign(&mut events)).await.is_err() {
                let reason = instance.reason().unwrap_or("no reason is known").to_owned();
                return Err(Error::unavailable(format!("the instance is {}: {reason}", instance.status())));
            }
            instance.refresh().await?;
        }
        Ok(instance)
    }

    /// Asks for it to be taken back. An operation without a way back, such as a deletion, goes on.
    ///
    /// [`Conflict`](Kind::Conflict) where it has ended.
    pub async fn cancel(&self) -> Result<()> {
        if !self.trove.0.control.store.cancel_operation(self.id).await? {
            return Err(Error::conflict("the operation has ended"));
        }
        self.trove.0.engine.nudge(self.id);
        Ok(())
    }

    /// Lets it try again where it is stuck. [`Conflict`](Kind::Conflict) where it is not.
    pub async fn resume(&self) -> Result<()> {
        if !self.trove.0.control.store.resume_operation(self.id, self.trove.0.clock.now()).await? {
            return Err(Error::conflict("the operation is not stuck"));
        }
        self.trove.0.engine.announce();
        Ok(())
    }

    /// Gives it up where it is stuck; its instance can then only be deleted. [`Conflict`](Kind::Conflict) where it is not.
    pub async fn abandon(&self) -> Result<()> {
        if !self.trove.0.control.store.abandon_operation(self.id, self.trove.0.clock.now()).await? {
            return Err(Error::conflict("the operation is not stuck"));
        }
        Ok(())
    }

    /// Waits for an event that may be about its end or its instance's health, or for a while.
    async fn next_sign(&self, events: &mut EventStream) {
        let sign = async {
            while let Some(event) = events.next().await {
                let telling = match event.kind {
                    EventKind::Ended { operation, .. } => operation == self.id,
                    EventKind::Deleted | EventKind::Health { .. } | EventKind::State { .. } => true,
                    _ => false,
                };
                if telling && event.instance == self.instance {
                    return;
                }
            }
            // The service has shut down; the journal is all there is.
            std::future::pending::<()>().await;
        };
        let _ = tokio::time::timeout(POLL, sign).await;
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
