//! A temporary local platform for one engine.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use trove_core::{Trove, control::Builder};
use trove_drivers::{LocalPlatform, LocalPlatformBuilder, MariaDb, MySql, PostgreSql};

use crate::{Engine, Result};

/// The label of the containers and networks of a host: those of the library and of the baseline.
const LABEL: &str = "io.trove.scope";

/// A temporary directory with a local platform. Removes its directory, containers and networks when
/// dropped, also after an error. Nothing may run on it by then.
#[derive(Debug)]
pub struct BenchHost {
    directory: TempDir,
    platform: LocalPlatform,
    engine: Engine,
    image: String,
}

impl BenchHost {
    /// Creates a host for an engine in a new directory below `parent`.
    pub fn new(parent: &str, engine: Engine) -> Result<Self> {
        Self::create(parent, engine, |platform| platform)
    }

    /// Creates a host on which guest agents run as processes of this program.
    pub fn with_agents(parent: &str, engine: Engine, program: &Path) -> Result<Self> {
        Self::create(parent, engine, |platform| platform.agent_program(program).agent_environment(std::env::vars_os()))
    }

    fn create(
        parent: &str,
        engine: Engine,
        configure: impl FnOnce(LocalPlatformBuilder) -> LocalPlatformBuilder,
    ) -> Result<Self> {
        let image = engine.image()?;
        let directory = TempDir::with_prefix_in("bench-", parent)?;
        let platform = configure(LocalPlatform::builder(directory.path().join("root"))).connect()?;
        Ok(Self { directory, platform, engine, image })
    }

    /// Starts the service as an embedder does.
    pub async fn start(&self) -> Result<Trove> {
        Ok(self.builder().start().await?)
    }

    /// Returns the builder of a service with this platform, the engine and a store on SQLite.
    pub fn builder(&self) -> Builder {
        let store = format!("sqlite:{}", self.path().join("trove.db").display());
        let builder = Trove::builder().store(store).platform(self.platform.clone());
        let (version, image) = (self.engine.version(), self.image());
        match self.engine {
            Engine::PostgreSql => builder.datastore(PostgreSql::new().image(version, image)),
            Engine::MySql => builder.datastore(MySql::new().image(version, image)),
            Engine::MariaDb => builder.datastore(MariaDb::new().image(version, image)),
        }
    }

    /// Returns the temporary directory, which contains that of the platform.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Creates a directory in the temporary directory.
    pub fn subdirectory(&self, name: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        std::fs::create_dir(&path)?;
        Ok(path)
    }

    /// Returns the engine.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Returns the image of the engine.
    pub fn image(&self) -> &str {
        &self.image
    }

    /// Returns the label by which containers and networks are removed when the host is dropped.
    pub fn label(&self) -> (&'static str, &str) {
        (LABEL, self.platform.scope())
    }
}

impl Drop for BenchHost {
    fn drop(&mut self) {
        let filter = format!("label={LABEL}={}", self.platform.scope());
        remove(&["ps", "--all", "--quiet", "--filter", &filter], &["rm", "--force", "--volumes"]);
        remove(&["network", "ls", "--quiet", "--filter", &filter], &["network", "rm"]);
        // It exists only if this process is root and an instance was not deleted.
        let table = format!("trove-{}", self.platform.scope());
        let _ = Command::new("nft").args(["delete", "table", "inet", &table]).output();
    }
}

/// Removes the objects that a `docker` command lists, and prints those that it could not remove.
fn remove(list: &[&str], remove: &[&str]) {
    let listed = Command::new("docker").args(list).output();
    let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let ids: Vec<&str> = listed.split_whitespace().collect();
    if ids.is_empty() {
        return;
    }
    let removed = Command::new("docker").args(remove).args(&ids).output();
    if !removed.is_ok_and(|output| output.status.success()) {
        eprintln!("could not remove all of {}", ids.join(" "));
    }
}
