//! What a server in memory is, and how it changes from one state into another.
//!
//! ```text
//! prepare ──> running ── stop ──> stopped ── start ──> running
//!                │
//!                └─ killed, suspended, lost, without data: a fault, until a start mends it or it goes by itself
//! ```
//!
//! A start mends every fault but that the data is gone: a server is never begun anew where there was one.

use std::collections::BTreeMap;

use super::{Account, Text, release::Begun, settings::ServerSettings, testbed};
use crate::{
    datastore::Release,
    error::{Error, Result},
    model::{ByteSize, Condition, Disk, Health, Observed, Problem, UserName, gib},
    secret::SecretString,
};

/// A server, with the data on its volume.
#[derive(Clone, Debug, Default)]
pub(super) struct Server {
    pub(super) running: bool,
    /// True where the last thing asked for was a stop.
    pub(super) stopped: bool,
    pub(super) version: String,
    pub(super) image: String,
    pub(super) begun: Option<Begun>,
    pub(super) memory: ByteSize,
    pub(super) settings: ServerSettings,
    pub(super) fault: Option<Health>,
    pub(super) full: bool,
    pub(super) databases: BTreeMap<String, Text>,
    pub(super) users: BTreeMap<UserName, Account>,
    pub(super) root: Option<SecretString>,
    pub(super) tables: testbed::Tables,
    pub(super) sessions: BTreeMap<u64, testbed::SessionEntry>,
    pub(super) last_session: u64,
    pub(super) log: Vec<String>,
}

impl Server {
    /// One that was never started.
    pub(super) fn new(release: &Release, memory: ByteSize) -> Self {
        let (version, image) = (release.version.clone(), release.image.clone());
        Self { version, image, memory, ..Self::default() }
    }

    /// True where it takes questions.
    pub(super) fn answers(&self) -> bool {
        self.running && !matches!(self.fault, Some(Health::Down(_)))
    }

    /// Comes up with the settings it was told or, where it does not, with those it came up with before.
    pub(super) fn start(&mut self) -> Result<()> {
        if self.fault.as_ref().and_then(Health::problem).is_some_and(|it| it.condition == Condition::DataMissing) {
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
        self.log.push(format!("version {} serves", self.version));
        Ok(())
    }

    /// Comes to rest, because somebody wants it to.
    pub(super) fn stop(&mut self) {
        self.end(None);
        self.stopped = true;
    }

    /// Ends, for this reason where nobody asked for it.
    pub(super) fn end(&mut self, fault: Option<Health>) {
        (self.running, self.fault) = (false, fault);
        self.sessions.clear();
        self.log.push("the server ended".to_owned());
    }

    /// Runs from this release.
    pub(super) fn run_from(&mut self, release: &Release) -> Result<()> {
        if self.image != release.image {
            self.end(None);
            (self.version, self.image) = (release.version.clone(), release.image.clone());
        }
        self.start()
    }

    /// Runs with so much memory.
    pub(super) fn resize(&mut self, memory: ByteSize) -> Result<()> {
        if self.memory != memory {
            self.end(None);
            self.memory = memory;
        }
        self.start()
    }

    pub(super) fn observe(&self) -> Observed {
        let down = |condition, message| Health::Down(Problem::new(condition, message));
        let health = match &self.fault {
            Some(fault) => fault.clone(),
            None if self.running && self.full => {
                Health::Impaired(Problem::new(Condition::DiskFull, "the volume has no room left"))
            }
            None if self.running => Health::Healthy,
            None if self.stopped => Health::Stopped,
            None => down(Condition::Exited, "the server ended"),
        };
        let used = self.tables.values().flat_map(BTreeMap::values).map(|text| text.len() as u64).sum();
        let free = if self.full { ByteSize::default() } else { gib(1) };
        Observed::new(health)
            .server_version(self.answers().then(|| self.version.clone()))
            .disk(Some(Disk { used: Some(ByteSize::bytes(used)), free }))
            .settings(Some(self.settings.state(self.running)))
    }
}
