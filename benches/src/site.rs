//! A place on this machine for databases, which is cleared when it goes.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use trove_core::{Trove, control::Builder};
use trove_drivers::{LocalPlatform, LocalPlatformBuilder, MariaDb, MySql, PostgreSql};

use crate::{Engine, Result};

/// The label that all containers and networks of a site carry, the library's and the floor's.
const LABEL: &str = "io.trove.scope";

/// A directory with a local platform of its own. Dropped, it takes everything along that was made in it, whatever
/// happened; nothing may be at work there any more.
#[derive(Debug)]
pub struct Site {
    directory: TempDir,
    platform: LocalPlatform,
    engine: Engine,
    image: String,
}

impl Site {
    /// A site for an engine in a new directory below `parent`.
    pub fn new(parent: &str, engine: Engine) -> Result<Self> {
        Self::at(parent, engine, |platform| platform)
    }

    /// The same with guest agents that are processes of their own, this program.
    pub fn with_agents(parent: &str, engine: Engine, program: &Path) -> Result<Self> {
        Self::at(parent, engine, |platform| platform.agent_program(program).agent_environment(std::env::vars_os()))
    }

    fn at(parent: &str, engine: Engine, so: impl FnOnce(LocalPlatformBuilder) -> LocalPlatformBuilder) -> Result<Self> {
        let image = engine.image()?;
        let directory = TempDir::with_prefix_in("bench-", parent)?;
        let platform = so(LocalPlatform::builder(directory.path().join("root"))).connect()?;
        Ok(Self { directory, platform, engine, image })
    }

    /// The service, as an embedder starts it.
    pub async fn start(&self) -> Result<Trove> {
        Ok(self.service().start().await?)
    }

    /// The service before it is started: the engine on this machine, with a store on SQLite.
    pub fn service(&self) -> Builder {
        let store = format!("sqlite:{}", self.path().join("trove.db").display());
        let builder = Trove::builder().store(store).platform(self.platform.clone());
        let (version, image) = (self.engine.version(), self.image());
        match self.engine {
            Engine::PostgreSql => builder.datastore(PostgreSql::new().image(version, image)),
            Engine::MySql => builder.datastore(MySql::new().image(version, image)),
            Engine::MariaDb => builder.datastore(MariaDb::new().image(version, image)),
        }
    }

    /// The directory; that of the platform is inside, beside whatever else is put there.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A new directory here.
    pub fn subdirectory(&self, name: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        std::fs::create_dir(&path)?;
        Ok(path)
    }

    /// The engine whose databases are made here.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// The engine's image.
    pub fn image(&self) -> &str {
        &self.image
    }

    /// The label by which what is made beside the library is cleared away too.
    pub fn label(&self) -> (&'static str, &str) {
        (LABEL, self.platform.scope())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let filter = format!("label={LABEL}={}", self.platform.scope());
        remove(&["ps", "--all", "--quiet", "--filter", &filter], &["rm", "--force", "--volumes"]);
        remove(&["network", "ls", "--quiet", "--filter", &filter], &["network", "rm"]);
    }
}

/// Removes what is listed. Where that fails there is nobody left to tell but the person at the terminal.
fn remove(list: &[&str], remove: &[&str]) {
    let listed = Command::new("docker").args(list).output();
    let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let ids: Vec<&str> = listed.split_whitespace().collect();
    if ids.is_empty() {
        return;
    }
    let removed = Command::new("docker").args(remove).args(&ids).output();
    if !removed.is_ok_and(|output| output.status.success()) {
        eprintln!("could not remove all of: {}", ids.join(" "));
    }
}
