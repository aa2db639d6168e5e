//! The state of an in-memory server and its transitions.
//!
//! ```text
//! prepare ──> running ── stop ──> stopped ── start ──> running
//!                │
//!                └─ killed, suspended, removed, data deleted: a fault, until start or resume
//! ```
//!
//! A start clears every fault except missing data: an existing server is never initialized again.

use std::collections::BTreeMap;

use super::{Account, TextEncoding, configuration::ServerSettings, driver_testbed, upgrade::PendingUpgrade};
use crate::{
    datastore::Release,
    error::{Error, Result},
    model::{ByteSize, Condition, Disk, Health, Observed, Problem, UserName, gib},
    secret::SecretString,
};

/// A server with the data on its volume.
#[derive(Clone, Debug, Default)]
pub(super) struct Server {
    pub(super) running: bool,
    /// Whether the server was stopped on request.
    pub(super) stopped: bool,
    pub(super) version: String,
    pub(super) image: String,
    pub(super) pending_upgrade: Option<PendingUpgrade>,
    pub(super) memory: ByteSize,
    pub(super) settings: ServerSettings,
    pub(super) fault: Option<Health>,
    pub(super) volume_full: bool,
    pub(super) databases: BTreeMap<String, TextEncoding>,
    pub(super) users: BTreeMap<UserName, Account>,
    pub(super) root: Option<SecretString>,
    pub(super) tables: driver_testbed::Tables,
    pub(super) sessions: BTreeMap<u64, driver_testbed::SessionState>,
    pub(super) last_session: u64,
    pub(super) log: Vec<String>,
}

impl Server {
    /// Creates a server that has not been started.
    pub(super) fn new(release: &Release, memory: ByteSize) -> Self {
        let (version, image) = (release.version.clone(), release.image.clone());
        Self { version, image, memory, ..Self::default() }
    }

    /// Returns whether clients can connect.
    pub(super) fn accepts_connections(&self) -> bool {
        self.running && !matches!(self.fault, Some(Health::Down(_)))
    }

    /// Starts with the configured settings, or rolls back to the last effective ones if those are
    /// fatal.
    pub(super) fn start(&mut self) -> Result<()> {
        let condition = self.fault.as_ref().and_then(Health::problem).map(|problem| problem.condition);
        if condition == Some(Condition::DataMissing) {
            return Err(Error::corrupt("the data directory is missing"));
        }
        (self.fault, self.stopped) = (None, false);
        if self.running {
            return Ok(());
        }
        if self.image.ends_with("broken") {
            return Err(Error::internal("the server does not start"));
        }
        self.settings.start()?;
        self.running = true;
        self.log.push(format!("version {} started", self.version));
        Ok(())
    }

    /// Stops on request.
    pub(super) fn stop(&mut self) {
        self.terminate(None);
        self.stopped = true;
    }

    /// Terminates all sessions and the server, with the fault that caused it.
    pub(super) fn terminate(&mut self, fault: Option<Health>) {
        (self.running, self.fault) = (false, fault);
        self.sessions.clear();
        self.log.push("terminated".to_owned());
    }

    /// Runs this release, with a restart if another one runs.
    pub(super) fn switch_release(&mut self, release: &Release) -> Result<()> {
        if self.image != release.image {
            self.terminate(None);
            (self.version, self.image) = (release.version.clone(), release.image.clone());
        }
        self.start()
    }

    /// Runs with this much memory, with a restart if the server has more or less.
    pub(super) fn resize(&mut self, memory: ByteSize) -> Result<()> {
        if self.memory != memory {
            self.terminate(None);
            self.memory = memory;
        }
        self.start()
    }

    pub(super) fn observe(&self) -> Observed {
        let down = |condition, message| Health::Down(Problem::new(condition, message));
        let health = match &self.fault {
            Some(fault) => fault.clone(),
            None if self.running && self.volume_full => {
                Health::Impaired(Problem::new(Condition::DiskFull, "the volume is full"))
            }
            None if self.running => Health::Healthy,
            None if self.stopped => Health::Stopped,
            None => down(Condition::Exited, "the server exited"),
        };
        let used = self.tables.values().flat_map(BTreeMap::values).map(|text| text.len() as u64).sum();
        let free = if self.volume_full { ByteSize::default() } else { gib(1) };
        Observed::new(health)
            .server_version(self.accepts_connections().then(|| self.version.clone()))
            .disk(Some(Disk { used: Some(ByteSize::bytes(used)), free }))
            .settings(Some(self.settings.state(self.running)))
    }
}
