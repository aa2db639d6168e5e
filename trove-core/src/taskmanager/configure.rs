use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{ControlPlane, guest_job};
use crate::{
    error::{Kind, Result},
    flow::{End, Flow, Limits, Next, StepCx},
    guest::Job,
    lifecycle::State,
    model::{AssignedSettings, OperationStatus, Settings},
    store::InstanceChange,
};

/// Applies the settings of a configuration group, or the defaults, to the server of an instance.
///
/// The settings are part of the operation, so that each try applies the same settings even if the
/// group changes meanwhile. A changed group is applied by another operation.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ConfigureInstance {
    to: AssignedSettings,
    /// The former settings, once they have been read.
    from: Option<AssignedSettings>,
}

/// The one step of [`ConfigureInstance`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum ConfigureStep {
    /// Has the agent apply the settings.
    Server,
}

impl ConfigureInstance {
    /// Returns a change to these settings.
    pub(crate) fn new(to: AssignedSettings) -> Self {
        Self { to, from: None }
    }

    async fn former_settings(&mut self, cx: &StepCx<'_, ControlPlane>) -> Result<Settings> {
        let from = cx.context.instance(cx.instance).await?.assigned_settings;
        Ok(self.from.insert(from).settings.clone())
    }

    /// Returns the settings to record after a failure. A revision that the server rejected counts
    /// as applied, because it would be retried forever otherwise; after any other failure the
    /// former revision is recorded, so that the group is applied again.
    fn assigned_after_failure(&self, end: End<'_>) -> Option<AssignedSettings> {
        let from = self.from.clone()?;
        let id = |assigned: &AssignedSettings| assigned.group.map(|(id, _)| id);
        let rejected = end.error.is_some_and(|error| matches!(error.kind, Kind::Invalid | Kind::Unsupported));
        let group = if rejected && id(&from) == id(&self.to) { self.to.group } else { from.group };
        Some(AssignedSettings { group, ..from })
    }
}

#[async_trait]
impl Flow for ConfigureInstance {
    const KIND: &'static str = "instance.configure/v1";
    const STEPS: &'static [ConfigureStep] = &[ConfigureStep::Server];
    type Step = ConfigureStep;
    type Context = ControlPlane;

    fn name(_step: ConfigureStep) -> &'static str {
        "server"
    }

    fn limits(_step: ConfigureStep) -> Limits {
        Limits { total_timeout: Duration::from_secs(300), tries: 4, ..Limits::default() }
    }

    async fn run(&mut self, _step: ConfigureStep, cx: &mut StepCx<'_, ControlPlane>) -> Result<Next> {
        self.former_settings(cx).await?;
        // The instance may have been resized since the group was changed.
        let instance = cx.context.instance(cx.instance).await?;
        cx.context.guests.driver(&instance.datastore)?.check_settings(&instance.flavor, &self.to.settings)?;
        guest_job(cx, Job::Configure(self.to.settings.clone())).await
    }

    async fn undo(&mut self, _step: ConfigureStep, cx: &mut StepCx<'_, ControlPlane>) -> Result<Next> {
        let former = self.former_settings(cx).await?;
        guest_job(cx, Job::RestoreSettings(former)).await
    }

    fn ended(&self, end: End<'_>) -> InstanceChange {
        let failure = || end.fault("the configuration could not be applied");
        let (change, assigned) = match end.status {
            OperationStatus::Succeeded => (InstanceChange::to(State::Active), Some(self.to.clone())),
            OperationStatus::Stuck => {
                (InstanceChange::failed(State::Error, failure(), end.at), self.assigned_after_failure(end))
            }
            _ => (InstanceChange::failed(State::Active, failure(), end.at), self.assigned_after_failure(end)),
        };
        InstanceChange { assigned_settings: assigned, ..change }
    }
}
