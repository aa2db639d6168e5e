//! After a start of the service: gives every existing instance its agent back.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::ControlPlane;
use crate::{error::Result, id::InstanceId, lifecycle::State, model::Instance, platform::Ensured};

const PAGE: u32 = 200;
const AT_A_TIME: usize = 16;
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// Attaches an agent to each instance that has been made, and goes on trying where that fails.
pub(crate) async fn keep_guests(control: Arc<ControlPlane>, shutdown: CancellationToken) {
    loop {
        let complete = attach_all(&control).await.unwrap_or_else(|error| {
            tracing::warn!(error = error.report(), "cannot list instances");
            false
        });
        if complete {
            return;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RETRY_PAUSE) => {}
        }
    }
}

async fn attach_all(control: &ControlPlane) -> Result<bool> {
    let mut complete = true;
    let mut after: Option<InstanceId> = None;
    loop {
        let page = control.store.instances(None, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(complete) };
        after = Some(last.id);
        let attached = stream::iter(page.into_iter().filter(needs_agent))
            .map(|instance| async move { attach(control, &instance).await })
            .buffer_unordered(AT_A_TIME)
            .all(|attached| async move { attached })
            .await;
        complete &= attached;
    }
}

async fn attach(control: &ControlPlane, instance: &Instance) -> bool {
    match control.ensure_guest(instance).await {
        Ok(Ensured::Ready(())) => true,
        Ok(Ensured::Pending(_)) => false,
        Err(error) => {
            tracing::warn!(instance = %instance.id, error = error.report(), "cannot attach an agent");
            false
        }
    }
}

/// Flows attach the agents of instances that are being made or removed, when they get there.
fn needs_agent(instance: &Instance) -> bool {
    match instance.state {
        State::Active | State::Restarting | State::Stopping | State::Stopped | State::Starting => true,
        State::Build | State::Deleting | State::Error => false,
    }
}
