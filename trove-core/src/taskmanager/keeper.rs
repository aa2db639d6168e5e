//! Gives every existing instance its agent back: after a start of the service, and after its bus lost a mailbox.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::time::timeout;

use super::ControlPlane;
use crate::{error::Result, lifecycle::State, model::Instance, platform::Ensured};

const PAGE: u32 = 200;
const AT_A_TIME: usize = 16;
const RETRY_PAUSE: Duration = Duration::from_secs(5);
const ATTACH_DEADLINE: Duration = Duration::from_secs(60);

/// Attaches an agent to each instance that has been made, and goes on trying where that fails, for as long as the service
/// runs.
pub(crate) async fn keep_guests(control: Arc<ControlPlane>) {
    loop {
        let attached = attach_all(&control).await;
        tokio::time::sleep(RETRY_PAUSE).await;
        match attached {
            Ok(true) => control.guests.lost().await,
            Ok(false) => {}
            Err(error) => tracing::warn!(error = error.report(), "cannot list instances"),
        }
    }
}

/// True where every instance that needs an agent has one.
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
            .buffer_unordered(AT_A_TIME)
            .fold(true, |all, one| async move { all && one })
            .await;
    }
}

async fn attach(control: &ControlPlane, instance: &Instance) -> bool {
    match timeout(ATTACH_DEADLINE, control.recover_guest(instance.id)).await {
        Ok(Ok(Ensured::Ready(()))) => true,
        Ok(Ok(Ensured::Pending(_))) => false,
        Ok(Err(error)) => {
            tracing::warn!(instance = %instance.id, error = error.report(), "cannot attach an agent");
            false
        }
        Err(_) => {
            tracing::warn!(instance = %instance.id, "an agent could not be attached in time");
            false
        }
    }
}

/// Flows attach the agents of instances that are being made or removed, when they get there.
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
