use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{ControlPlane, guest_job};
use crate::{
    error::Result,
    flow::{End, Flow, Limits, Next, StepCx},
    guest::{GuestIdentity, Work},
    lifecycle::State,
    model::OperationStatus,
    platform::Ensured,
    store::InstanceChange,
};

/// How long the guest may take to use its new key before it is looked again.
const USE_PATIENCE: Duration = Duration::from_secs(20);

/// Gives the guest of an instance another key and another login at the bus. Its server does not notice.
///
/// Until the guest has written both down, they can be taken back; from then on the old ones are only good until it has
/// answered with the new.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct RotateIdentity {
    /// The number of the new identity, once it is chosen.
    number: u32,
}

/// A step of [`RotateIdentity`].
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Draw a key and a password, and let them in at the bus.
    Admit,
    /// Have the guest write them down.
    Tell,
    /// Have it answer with them.
    Use,
    /// Take the ones before away.
    Retire,
}

#[async_trait]
impl Flow for RotateIdentity {
    const KIND: &'static str = "instance.rotate-identity/v1";
    const STEPS: &'static [Step] = &[Step::Admit, Step::Tell, Step::Use, Step::Retire];
    type Step = Step;
    type Context = ControlPlane;

    fn name(step: Step) -> &'static str {
        match step {
            Step::Admit => "admit",
            Step::Tell => "tell",
            Step::Use => "use",
            Step::Retire => "retire",
        }
    }

    fn limits(_step: Step) -> Limits {
        Limits::default()
    }

    async fn run(&mut self, step: Step, cx: &mut StepCx<'_, ControlPlane>) -> Result<Next> {
        let (control, instance) = (cx.context, cx.instance);
        match step {
            Step::Admit => {
                self.number = control.identity(instance).await?.number() + 1;
                let fresh = GuestIdentity::generate(instance, self.number)?.wrap(&control.keys, instance)?;
                control.store.insert_identity(instance, &fresh).await?;
                let identity = control.identity_of(instance, self.number).await?;
                control.guests.admit(instance, &identity).await?;
            }
            Step::Tell => {
                let identity = control.identity_of(instance, self.number).await?;
                control.guests.admit(instance, &identity).await?;
                let told = guest_job(cx, Work::Renew(identity)).await?;
                if told == Next::Done {
                    control.store.mark_identity_delivered(instance, self.number).await?;
                }
                return Ok(told);
            }
            Step::Use => {
                let identity = control.identity_of(instance, self.number).await?;
                if let Ensured::Pending(pause) = control.ensure_guest(&control.instance(instance).await?).await? {
                    return Ok(Next::Wait(pause));
                }
                control.guests.renew(instance, identity.key, USE_PATIENCE).await?;
            }
            Step::Retire => control.retire_identities(instance, |number| number < self.number).await?,
        }
        Ok(Next::Done)
    }

    async fn undo(&mut self, step: Step, cx: &mut StepCx<'_, ControlPlane>) -> Result<Next> {
        let control = cx.context;
        if matches!(step, Step::Admit) && control.identity(cx.instance).await?.number() < self.number {
            control.retire_identities(cx.instance, |number| number == self.number).await?;
        }
        // What the guest was told of is used from now on; those before go with the next rotation.
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
