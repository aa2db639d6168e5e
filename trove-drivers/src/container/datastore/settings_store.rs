//! Persists the record of an instance's settings: read once, cached in memory, and written ahead of
//! each change.

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

/// The record, cached after the first read.
#[derive(Debug)]
pub(super) struct SettingsStore {
    path: PathBuf,
    /// Held while the file is read or written, so that a hanging file system blocks only one
    /// thread.
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
                    tracing::warn!(path = %path.display(), "the settings record is damaged");
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
            // The content of the file is unknown until the write completed.
            *known = None;
            state_file::write(&path, &record)?;
            *known = Some(record);
            Ok(())
        })
        .await
    }

    /// Clears the cache.
    pub(super) async fn forget(&self) {
        *self.known.lock().await = None;
    }
}

impl<E: Engine> ContainerDatastore<E> {
    /// Returns the record.
    pub(super) async fn record(&self) -> Result<SettingsRecord> {
        match self.engine.parameters() {
            Some(_) => self.settings.load().await,
            None => Ok(SettingsRecord::empty()),
        }
    }

    /// Persists the record.
    pub(super) async fn keep(&self, record: &SettingsRecord) -> Result<()> {
        match self.engine.parameters() {
            Some(_) => self.settings.keep(record).await,
            None => Ok(()),
        }
    }

    /// Returns the record for an observation, if the engine has settings and they can be read in
    /// time.
    pub(super) async fn known_settings(&self) -> Option<SettingsRecord> {
        self.engine.parameters()?;
        timeout(READ_LIMIT, self.settings.load()).await.ok()?.ok()
    }

    /// Returns true if only the data of the instance is left, as after a removal.
    async fn is_forgotten(&self) -> Result<bool> {
        Ok(!self.on_disk(HostPaths::has_settings).await? && self.containers.look(&self.name).await?.is_none())
    }

    /// Records the settings of an instance that is being prepared.
    pub(super) async fn begin_settings(&self, settings: &Settings, new: bool) -> Result<()> {
        if self.engine.parameters().is_none() && !settings.is_empty() {
            return Err(Error::unsupported("this datastore has no parameters to set"));
        }
        if new || !self.record().await?.has_answered() || self.is_forgotten().await? {
            let record =
                if settings.is_empty() { SettingsRecord::empty() } else { SettingsRecord::new(settings.clone()) };
            self.keep(&record).await?;
        }
        Ok(())
    }
}
