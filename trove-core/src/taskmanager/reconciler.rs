//! Attaches the agents of all instances: after a start of the service, and after an attachment was
//! lost.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::time::timeout;

use super::ControlPlane;
use crate::{error::Result, lifecycle::State, model::Instance, platform::Ensured};

const PAGE: u32 = 200;
const CONCURRENCY: usize = 16;
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
const ATTACH_TIMEOUT: Duration = Duration::from_secs(60);

/// Attaches the agent of every instance that needs one, and retries at a fixed interval, for as
/// long as the service runs.
pub(crate) async fn reconcile_guests(control: Arc<ControlPlane>) {
    loop {
        let attached = attach_all(&control).await;
        tokio::time::sleep(RETRY_INTERVAL).await;
        match attached {
            Ok(true) => control.guests.attachment_lost().await,
            Ok(false) => {}
            Err(error) => tracing::warn!(error = error.report(), "failed to list instances"),
        }
    }
}

/// Returns true if every instance that needs an agent has one.
async fn attach_all(control: &ControlPlane) -> Result<bool> {
    let mut complete = true;
    let mut last: Option<Instance> = None;
    loop {
        let page = control.store.instances(None, last.as_ref(), PAGE).await?;
        last = page.last().cloned();
        if last.is_none() {
            return Ok(complete);
        }
        complete &= stream::iter(page.into_iter().filter(needs_agent))
            .map(|instance| async move { attach(control, &instance).await })
            .buffer_unordered(CONCURRENCY)
            .fold(true, |all, one| async move { all && one })
            .await;
    }
}

async fn attach(control: &ControlPlane, instance: &Instance) -> bool {
    match timeout(ATTACH_TIMEOUT, control.reattach_guest(instance.id)).await {
        Ok(Ok(Ensured::Ready(()))) => true,
        Ok(Ok(Ensured::Pending(_))) => false,
        Ok(Err(error)) => {
            tracing::warn!(instance = %instance.id, error = error.report(), "failed to attach an agent");
            false
        }
        Err(_) => {
            tracing::warn!(instance = %instance.id, "timed out attaching an agent");
            false
        }
    }
}

/// Returns true if the agent of an instance should be attached. The agents of instances that are
/// being created or deleted are attached by the flow.
pub(super) fn needs_agent(instance: &Instance) -> bool {
    match instance.state {
        State::Active
        | State::Restarting
        | State::Stopping
        | State::Stopped
        | State::Starting
        | State::Configuring
        | State::Upgrading
        | State::Resizing
        | State::Rotating => true,
        State::Build | State::Deleting | State::Error => false,
    }
}
