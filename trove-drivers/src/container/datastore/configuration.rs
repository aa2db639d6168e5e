//! The settings of a server that is running or will be started.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::sleep;
use trove_core::{
    datastore::{Configuration, Cx},
    error::{Error, Result},
    model::{ParameterCatalog, Setting, Settings},
};

use super::ContainerDatastore;
use crate::{
    container::{Engine, Parameters, settings_record::SettingsRecord},
    docker::RunState,
};

/// How long a server may take to apply new values.
const SET_LIMIT: Duration = Duration::from_secs(60);

#[async_trait]
impl<E: Engine> Configuration for ContainerDatastore<E> {
    async fn digest(&self, cx: &Cx) -> Result<String> {
        self.adopt().await?;
        self.ensure_image(cx, &self.host()).await
    }

    async fn catalog(&self, cx: &Cx) -> Result<ParameterCatalog> {
        self.adopt().await?;
        self.read_catalog(cx).await
    }

    async fn apply(&self, cx: &Cx, settings: &Settings) -> Result<()> {
        let _turn = self.turn(cx).await?;
        self.adopt().await?;
        let parameters = self.engine.parameters();
        let parameters = parameters.ok_or_else(|| Error::unsupported("this datastore has no parameters to set"))?;
        let mut record = self.record().await?;
        if record.is(settings) {
            return Ok(());
        }
        let found = self.containers.look(&self.name).await?;
        match found.map(|found| found.state) {
            Some(RunState::Running { .. }) => self.change(cx, parameters, &mut record, settings).await,
            None | Some(RunState::Created | RunState::Paused | RunState::Exited { .. }) => {
                record.want(settings.clone());
                self.keep(&record).await
            }
        }
    }
}

impl<E: Engine> ContainerDatastore<E> {
    /// Applies settings to a running server, or restores the former ones if that fails.
    async fn change(
        &self,
        cx: &Cx,
        parameters: &dyn Parameters,
        record: &mut SettingsRecord,
        settings: &Settings,
    ) -> Result<()> {
        if !self.probe().await.0.answered() {
            return Err(Error::unavailable("the server does not answer"));
        }
        record.answered();
        let changes = record.begin(settings);
        self.keep(record).await?;
        let refused = match self.set(cx, parameters, settings, &changes).await {
            Ok(later) => {
                record.changed(changes, &later);
                return self.keep(record).await;
            }
            Err(error) => error,
        };
        let (former, undo) = (record.wanted().clone(), record.undo(&changes));
        match self.set(cx, parameters, &former, &undo).await {
            Ok(_) => {
                record.undone();
                self.keep(record).await?;
            }
            // The record says that the server may have either; the next change or start resolves
            // that.
            Err(error) => {
                tracing::warn!(server = self.name, error = error.report(), "failed to restore the former settings");
            }
        }
        Err(refused)
    }

    async fn set(
        &self,
        cx: &Cx,
        parameters: &dyn Parameters,
        settings: &Settings,
        changes: &[(String, Option<Setting>)],
    ) -> Result<Vec<String>> {
        let host = self.host();
        let files = self.engine.files(&host, settings);
        self.on_disk(move |paths| paths.render(&files)).await?;
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        tokio::select! {
            set = cx.waiting("set parameters", parameters.set(&host, changes)) => set,
            () = cx.cancelled() => Err(Error::cancelled("changing the settings was cancelled")),
            () = sleep(SET_LIMIT) => Err(Error::timeout("the server did not apply the settings in time")),
        }
    }
}
