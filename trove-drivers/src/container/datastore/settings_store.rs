//! The record of an instance's settings: read once, kept in memory, written before what it tells is done.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::timeout};
use trove_core::{
    error::{Error, Result},
    model::Settings,
};

use super::ContainerDatastore;
use crate::container::{
    Engine,
    host_paths::HostPaths,
    monitors::blocking,
    settings_record::SettingsRecord,
    state_file::{self, StateFile},
};

/// How long an observation waits for the file system.
const READ_LIMIT: Duration = Duration::from_secs(2);

/// The record, once it was read.
#[derive(Debug)]
pub(super) struct SettingsStore {
    path: PathBuf,
    /// Held by the one who reads or writes the file: one that hangs costs one thread.
    known: Arc<Mutex<Option<SettingsRecord>>>,
}

impl SettingsStore {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, known: Arc::default() }
    }

    async fn load(&self) -> Result<SettingsRecord> {
        let mut known = Arc::clone(&self.known).lock_owned().await;
        if let Some(record) = &*known {
            return Ok(record.clone());
        }
        let path = self.path.clone();
        blocking(move || {
            let record = match state_file::read(&path)? {
                StateFile::Absent => SettingsRecord::empty(),
                StateFile::Found(record) => record,
                StateFile::Damaged => {
                    tracing::warn!(path = %path.display(), "the record of the settings is damaged");
                    SettingsRecord::damaged()
                }
            };
            *known = Some(record.clone());
            Ok(record)
        })
        .await
    }

    async fn keep(&self, record: &SettingsRecord) -> Result<()> {
        let mut known = Arc::clone(&self.known).lock_owned().await;
        if known.as_ref() == Some(record) {
            return Ok(());
        }
        let (path, record) = (self.path.clone(), record.clone());
        blocking(move || {
            // What the file says is open until it was written.
            *known = None;
            state_file::write(&path, &record)?;
            *known = Some(record);
            Ok(())
        })
        .await
    }

    /// Forgets what was read.
    pub(super) async fn forget(&self) {
        *self.known.lock().await = None;
    }
}

impl<E: Engine> ContainerDatastore<E> {
    /// The record as it is.
    pub(super) async fn record(&self) -> Result<SettingsRecord> {
        match self.engine.parameters() {
            Some(_) => self.settings.load().await,
            None => Ok(SettingsRecord::empty()),
        }
    }

    /// Makes this the record.
    pub(super) async fn keep(&self, record: &SettingsRecord) -> Result<()> {
        match self.engine.parameters() {
            Some(_) => self.settings.keep(record).await,
            None => Ok(()),
        }
    }

    /// The record, for an observation: where the engine has settings and they can be read in time.
    pub(super) async fn known_settings(&self) -> Option<SettingsRecord> {
        self.engine.parameters()?;
        timeout(READ_LIMIT, self.settings.load()).await.ok()?.ok()
    }

    /// True where nothing but the data is left of the instance, as after a removal.
    async fn is_forgotten(&self) -> Result<bool> {
        Ok(!self.on_disk(HostPaths::has_settings).await? && self.containers.look(&self.name).await?.is_none())
    }

    /// Notes the settings of an instance that is being prepared.
    pub(super) async fn begin_settings(&self, settings: &Settings, new: bool) -> Result<()> {
        if self.engine.parameters().is_none() && !settings.is_empty() {
            return Err(Error::unsupported("this datastore has no parameters to set"));
        }
        if new || !self.record().await?.came_up() || self.is_forgotten().await? {
            let record =
                if settings.is_empty() { SettingsRecord::empty() } else { SettingsRecord::new(settings.clone()) };
            self.keep(&record).await?;
        }
        Ok(())
    }
}
