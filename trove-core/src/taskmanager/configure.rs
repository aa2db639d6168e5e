use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{ControlPlane, guest_job};
use crate::{
    error::{Kind, Result},
    flow::{End, Flow, Limits, Next, StepCx},
    guest::Work,
    lifecycle::State,
    model::{AssignedSettings, OperationStatus, Settings},
    store::InstanceChange,
};

/// Gives the server of an instance the settings of a configuration group, or none.
///
/// The settings are in the operation itself, so that each of its tries gives the same ones, whatever becomes of the
/// group meanwhile. A group that has changed is given again, by another operation.
#[derive(Debug, Serialize, Deserialize)]
pub struct ConfigureInstance {
    to: AssignedSettings,
    /// What the instance had, once the operation has looked.
    from: Option<AssignedSettings>,
}

/// The one step of [`ConfigureInstance`].
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Have the agent apply the settings.
    Server,
}

impl ConfigureInstance {
    /// A change to these settings.
    pub fn new(to: AssignedSettings) -> Self {
        Self { to, from: None }
    }

    async fn look(&mut self, cx: &StepCx<'_, ControlPlane>) -> Result<Settings> {
        let from = cx.context.instance(cx.instance).await?.assigned_settings;
        Ok(self.from.insert(from).settings.clone())
    }

    /// What the instance counts as given when this failed. A revision that was refused was given nevertheless, or it would
    /// be given again for ever; one that met an obstacle is given again.
    fn given_after_failure(&self, end: End<'_>) -> Option<AssignedSettings> {
        let from = self.from.clone()?;
        let id = |given: &AssignedSettings| given.group.map(|(id, _)| id);
        let refused = end.error.is_some_and(|error| matches!(error.kind, Kind::Invalid | Kind::Unsupported));
        let group = if refused && id(&from) == id(&self.to) { self.to.group } else { from.group };
        Some(AssignedSettings { group, ..from })
    }
}

#[async_trait]
impl Flow for ConfigureInstance {
    const KIND: &'static str = "instance.configure/v1";
    const STEPS: &'static [Step] = &[Step::Server];
    type Step = Step;
    type Context = ControlPlane;

    fn name(_step: Step) -> &'static str {
        "server"
    }

    fn limits(_step: Step) -> Limits {
        Limits { patience: Duration::from_secs(300), tries: 4, ..Limits::default() }
    }

    async fn run(&mut self, _step: Step, cx: &mut StepCx<'_, ControlPlane>) -> Result<Next> {
        self.look(cx).await?;
        // The instance may have become smaller since the group was changed.
        let instance = cx.context.instance(cx.instance).await?;
        cx.context.guests.driver(&instance.datastore)?.check_settings(&instance.flavor, &self.to.settings)?;
        guest_job(cx, Work::Configure(self.to.settings.clone())).await
    }

    async fn undo(&mut self, _step: Step, cx: &mut StepCx<'_, ControlPlane>) -> Result<Next> {
        let before = self.look(cx).await?;
        guest_job(cx, Work::RestoreSettings(before)).await
    }

    fn ended(&self, end: End<'_>) -> InstanceChange {
        let failure = || end.fault("the configuration could not be applied");
        let (change, given) = match end.status {
            OperationStatus::Succeeded => (InstanceChange::to(State::Active), Some(self.to.clone())),
            OperationStatus::Stuck => {
                (InstanceChange::failed(State::Error, failure(), end.at), self.given_after_failure(end))
            }
            _ => (InstanceChange::failed(State::Active, failure(), end.at), self.given_after_failure(end)),
        };
        InstanceChange { assigned_settings: given, ..change }
    }
}
