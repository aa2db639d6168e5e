use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{ControlPlane, guest_job};
use crate::{
    error::Result,
    flow::{End, Flow, Limits, Next, StepCx},
    guest::{GuestIdentity, Job},
    lifecycle::State,
    model::OperationStatus,
    platform::Ensured,
    store::InstanceChange,
};

/// How long one try waits for a response of the guest under its new key.
const SWITCH_TIMEOUT: Duration = Duration::from_secs(20);

/// Rotates the key and the broker login of an instance's guest. The server is not affected.
///
/// The new identity can be revoked until the guest has persisted it. From then on the former
/// identity is valid only until the guest has responded under the new key.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct RotateIdentity {
    /// The number of the new identity, once it is chosen.
    number: u32,
}

/// A step of [`RotateIdentity`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum RotateStep {
    /// Generates a key and a password, and authorizes the login.
    Authorize,
    /// Has the guest persist them.
    Deliver,
    /// Switches to the new key, and waits for a response of the guest under it.
    Switch,
    /// Revokes the former identities.
    Revoke,
}

#[async_trait]
impl Flow for RotateIdentity {
    const KIND: &'static str = "instance.rotate-identity/v1";
    const STEPS: &'static [RotateStep] =
        &[RotateStep::Authorize, RotateStep::Deliver, RotateStep::Switch, RotateStep::Revoke];
    type Step = RotateStep;
    type Context = ControlPlane;

    fn name(step: RotateStep) -> &'static str {
        match step {
            RotateStep::Authorize => "authorize",
            RotateStep::Deliver => "deliver",
            RotateStep::Switch => "switch",
            RotateStep::Revoke => "revoke",
        }
    }

    fn limits(_step: RotateStep) -> Limits {
        Limits::default()
    }

    async fn run(&mut self, step: RotateStep, cx: &mut StepCx<'_, ControlPlane>) -> Result<Next> {
        let (control, instance) = (cx.context, cx.instance);
        match step {
            RotateStep::Authorize => {
                self.number = control.identity(instance).await?.number() + 1;
                let fresh = GuestIdentity::generate(instance, self.number)?.wrap(&control.keys, instance)?;
                control.store.insert_identity(instance, &fresh).await?;
                let identity = control.identity_of(instance, self.number).await?;
                control.guests.authorize(instance, &identity).await?;
            }
            RotateStep::Deliver => {
                let identity = control.identity_of(instance, self.number).await?;
                control.guests.authorize(instance, &identity).await?;
                let next = guest_job(cx, Job::AddIdentity(identity)).await?;
                if next == Next::Done {
                    control.store.mark_identity_delivered(instance, self.number).await?;
                }
                return Ok(next);
            }
            RotateStep::Switch => {
                let identity = control.identity_of(instance, self.number).await?;
                if let Ensured::Pending(pause) = control.ensure_guest(&control.instance(instance).await?).await? {
                    return Ok(Next::Wait(pause));
                }
                control.guests.switch_key(instance, identity.key, SWITCH_TIMEOUT).await?;
            }
            RotateStep::Revoke => control.revoke_identities(instance, |number| number < self.number).await?,
        }
        Ok(Next::Done)
    }

    async fn undo(&mut self, step: RotateStep, cx: &mut StepCx<'_, ControlPlane>) -> Result<Next> {
        let control = cx.context;
        if matches!(step, RotateStep::Authorize) && control.identity(cx.instance).await?.number() < self.number {
            control.revoke_identities(cx.instance, |number| number == self.number).await?;
        }
        // An identity that the guest has stays valid; the former one is revoked by the next rotation.
        Ok(Next::Done)
    }

    fn ended(&self, end: End<'_>) -> InstanceChange {
        let failure = || end.fault("the identity of the guest could not be rotated");
        match end.status {
            OperationStatus::Succeeded => InstanceChange::to(State::Active),
            OperationStatus::Stuck => InstanceChange::failed(State::Error, failure(), end.at),
            _ => InstanceChange::failed(State::Active, failure(), end.at),
        }
    }
}
