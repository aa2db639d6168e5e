use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{ControlPlane, REMOVAL, guest_job};
use crate::{
    datastore::Prepare,
    error::Result,
    flow::{End, Flow, Limits, Next, StepCx},
    guest::Job,
    id::InstanceId,
    lifecycle::State,
    model::{AssignedSettings, NewDatabase, NewUser, OperationStatus, UserName},
    platform::{EndpointRequest, Ensured},
    secret::{MasterKeys, Sealed},
    store::InstanceChange,
};

/// Creates an instance.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CreateInstance {
    databases: Vec<NewDatabase>,
    users: Vec<SealedUser>,
    #[serde(default)]
    settings: AssignedSettings,
}

/// A user to create, with a sealed password.
#[derive(Debug, Serialize, Deserialize)]
struct SealedUser {
    user: UserName,
    password: Sealed,
    databases: Vec<String>,
}

/// A step of [`CreateInstance`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum CreateStep {
    /// Ensures the volume.
    Volume,
    /// Ensures the endpoint.
    Endpoint,
    /// Ensures the compute and attaches the agent.
    Compute,
    /// Has the agent initialize the volume, start the server, and create databases and users.
    Prepare,
}

impl CreateInstance {
    /// Returns the creation of an instance. The passwords of the users are sealed for the journal.
    pub(crate) fn new(
        instance: InstanceId,
        databases: Vec<NewDatabase>,
        users: &[NewUser],
        keys: &MasterKeys,
    ) -> Result<Self> {
        let seal = |user: &NewUser| {
            Ok(SealedUser {
                user: user.user.clone(),
                password: keys.seal(&owner(instance, &user.user), &user.password)?,
                databases: user.databases.clone(),
            })
        };
        let users = users.iter().map(seal).collect::<Result<_>>()?;
        Ok(Self { databases, users, settings: AssignedSettings::default() })
    }

    /// Sets the settings of the server.
    #[must_use]
    pub(crate) fn settings(mut self, settings: AssignedSettings) -> Self {
        self.settings = settings;
        self
    }

    fn spec(&self, instance: InstanceId, keys: &MasterKeys) -> Result<Prepare> {
        let unseal = |user: &SealedUser| {
            let password = keys.open(&owner(instance, &user.user), &user.password)?;
            let mut unsealed = NewUser::new(&user.user, password);
            unsealed.databases.clone_from(&user.databases);
            Ok(unsealed)
        };
        let users = self.users.iter().map(unseal).collect::<Result<_>>()?;
        Ok(Prepare::new(self.databases.clone(), users).settings(self.settings.settings.clone()))
    }
}

#[async_trait]
impl Flow for CreateInstance {
    const KIND: &'static str = "instance.create/v1";
    const STEPS: &'static [CreateStep] =
        &[CreateStep::Volume, CreateStep::Endpoint, CreateStep::Compute, CreateStep::Prepare];
    type Step = CreateStep;
    type Context = ControlPlane;

    fn name(step: CreateStep) -> &'static str {
        match step {
            CreateStep::Volume => "volume",
            CreateStep::Endpoint => "endpoint",
            CreateStep::Compute => "compute",
            CreateStep::Prepare => "prepare",
        }
    }

    fn limits(step: CreateStep) -> Limits {
        match step {
            CreateStep::Volume | CreateStep::Endpoint | CreateStep::Compute => Limits::default(),
            // Pulling an image takes long if it succeeds, and fails fast if it does not.
            CreateStep::Prepare => Limits { total_timeout: Duration::from_secs(1800), tries: 4, ..Limits::default() },
        }
    }

    fn undo_limits(step: CreateStep) -> Limits {
        match step {
            CreateStep::Prepare => REMOVAL,
            CreateStep::Volume | CreateStep::Endpoint | CreateStep::Compute => Limits::default(),
        }
    }

    async fn run(&mut self, step: CreateStep, cx: &mut StepCx<'_, ControlPlane>) -> Result<Next> {
        let control = cx.context;
        let instance = control.instance(cx.instance).await?;
        match step {
            CreateStep::Volume => {
                Ok(control.platform.volumes.ensure_volume(instance.id, instance.volume).await?.into())
            }
            CreateStep::Endpoint => {
                let port = control.guests.driver(&instance.datastore)?.manifest().port;
                let request = EndpointRequest { public: instance.public, port };
                match control.platform.networks.ensure_endpoint(instance.id, request).await? {
                    Ensured::Ready(endpoint) => cx.change.endpoint = Some(Some(endpoint)),
                    Ensured::Pending(pause) => return Ok(Next::Wait(pause)),
                }
                Ok(Next::Done)
            }
            CreateStep::Compute => Ok(control.ensure_guest(&instance).await?.into()),
            CreateStep::Prepare => guest_job(cx, Job::Prepare(self.spec(instance.id, &control.keys)?)).await,
        }
    }

    async fn undo(&mut self, step: CreateStep, cx: &mut StepCx<'_, ControlPlane>) -> Result<Next> {
        let control = cx.context;
        match step {
            CreateStep::Prepare => return guest_job(cx, Job::Remove).await,
            CreateStep::Compute => control.release_guest(cx.instance).await?,
            CreateStep::Endpoint => {
                control.platform.networks.release_endpoint(cx.instance).await?;
                cx.change.endpoint = Some(None);
            }
            CreateStep::Volume => control.platform.volumes.release_volume(cx.instance).await?,
        }
        Ok(Next::Done)
    }

    fn secrets(&mut self, instance: InstanceId) -> Vec<(String, &mut Sealed)> {
        self.users.iter_mut().map(|user| (owner(instance, &user.user), &mut user.password)).collect()
    }

    fn ended(&self, end: End<'_>) -> InstanceChange {
        match end.status {
            OperationStatus::Succeeded => {
                InstanceChange { assigned_settings: Some(self.settings.clone()), ..InstanceChange::to(State::Active) }
            }
            // The undo released everything, so the instance does not use its group any more.
            _ => InstanceChange {
                assigned_settings: Some(AssignedSettings::default()),
                ..InstanceChange::failed(State::Error, end.fault("the instance could not be created"), end.at)
            },
        }
    }
}

fn owner(instance: InstanceId, user: &UserName) -> String {
    format!("{instance}/{user}")
}
