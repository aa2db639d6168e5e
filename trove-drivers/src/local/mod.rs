//! The platform that is one Docker host: this machine.
//!
//! Everything of an instance is below one directory and is found by the instance's id:
//!
//! ```text
//! <root>/lock                  held locked while a process uses the directory
//! <root>/volumes/<id>/         the volume
//! <root>/guests/<id>/          the agent's own directory: configuration, sockets
//! <root>/endpoints/<address>   the owner of the address
//! <root>/shared/               shared between instances and reproducible: data templates
//! <root>/trash/                what is being deleted; swept at the next start
//! ```
//!
//! The agent runs in this process or, if there is a message broker and an [agent
//! program](LocalPlatformBuilder::agent_program), in a process of its own that outlives this one:
//! its configuration is `guests/<id>/agent.json`, and while it is running it holds the lock of
//! `guests/<id>/agent.lock`. Containers, networks and labels carry the scope of the directory, so
//! that several platforms can share one Docker Engine.
//!
//! The network of the servers and the nftables table that isolates them are both called
//! `trove-<scope>`. They are made with the first instance and removed with the last one.

mod agents;
mod compute;
mod firewall;
mod inventory;
mod networks;
mod trash;
mod volumes;

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, TryLockError},
    io,
    ops::RangeInclusive,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use trove_core::{
    datastore::ServerIdentity,
    error::{Error, Result},
    id::InstanceId,
    platform::Platform,
};

use self::{agents::AgentSupervisors, firewall::Firewall, trash::Trash};
use crate::{
    container::{failed, open_lock_file, own},
    docker::Docker,
    hash::{short_hash, spread},
};

/// Marks a directory as a platform's. It is created before anything else in it.
const LOCK: &str = "lock";

/// How long the directory may stay locked after its platform was dropped: a process that this one
/// starts at the same time has a copy of the lock until it executes its program.
const LOCK_GRACE: Duration = Duration::from_secs(2);
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The default range of ports for instances.
const PORTS: RangeInclusive<u16> = 20_000..=29_999;

/// The first user id for servers: far from those of people and other services.
const FIRST_SERVER_ID: u32 = 2_000_000_000;
const SERVER_IDS: u32 = 100_000_000;

/// The platform that is this machine with its Docker Engine. Cheap to clone.
///
/// ```no_run
/// use trove_core::platform::Platform;
/// use trove_drivers::LocalPlatform;
///
/// let platform: Platform = LocalPlatform::connect("/var/lib/databases")?.into();
/// # Ok::<_, trove_core::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LocalPlatform(Arc<LocalState>);

#[derive(Debug)]
struct LocalState {
    root: PathBuf,
    scope: String,
    docker: Docker,
    ports: RangeInclusive<u16>,
    /// Held by the one call at a time that reserves or releases an address.
    claims: parking_lot::Mutex<networks::Claims>,
    firewall: Firewall,
    trash: Trash,
    agents: Option<AgentSupervisors>,
    _lock: File,
}

/// Configures a [`LocalPlatform`]; see [`LocalPlatform::builder`].
#[derive(Clone, Debug)]
pub struct LocalPlatformBuilder {
    root: PathBuf,
    docker: Docker,
    ports: RangeInclusive<u16>,
    agent_program: Option<PathBuf>,
    agent_environment: Vec<(String, OsString)>,
}

impl LocalPlatform {
    /// Connects to the platform that keeps its instances below this directory, with the defaults of
    /// [`builder`](Self::builder). Creates the directory if it is absent. Blocks on the file
    /// system.
    ///
    /// # Errors
    ///
    /// An existing directory is not changed, so it has to belong to this process's user, must not
    /// be writable by others, and must be empty or a platform's: otherwise
    /// [`Invalid`](trove_core::error::Kind::Invalid).
    /// [`Conflict`](trove_core::error::Kind::Conflict) if another process uses the directory.
    /// [`Unavailable`](trove_core::error::Kind::Unavailable) if this process may filter packets, but
    /// the packet filter cannot be changed.
    pub fn connect(root: impl Into<PathBuf>) -> Result<Self> {
        Self::builder(root).connect()
    }

    /// Returns a builder for a platform that keeps its instances below this directory.
    pub fn builder(root: impl Into<PathBuf>) -> LocalPlatformBuilder {
        LocalPlatformBuilder {
            root: root.into(),
            docker: Docker::connect(),
            ports: PORTS,
            agent_program: None,
            agent_environment: Vec::new(),
        }
    }

    /// Removes the packet filter.
    #[cfg(feature = "conformance")]
    pub(crate) fn remove_firewall(&self) -> Result<()> {
        self.0.firewall.remove()
    }

    /// Returns the value of the label `io.trove.scope` on the containers and networks of this
    /// platform. It is derived from the path of the directory.
    pub fn scope(&self) -> &str {
        &self.0.scope
    }
}

impl LocalPlatformBuilder {
    /// Uses this Docker Engine. The default is [`Docker::connect`].
    #[must_use]
    pub fn docker(mut self, docker: Docker) -> Self {
        self.docker = docker;
        self
    }

    /// Assigns ports from this range to public instances, and to private ones if the port of their
    /// engine is taken. The default is 20000 to 29999.
    #[must_use]
    pub fn ports(mut self, ports: RangeInclusive<u16>) -> Self {
        self.ports = ports;
        self
    }

    /// Runs the guest agent of each instance in a process of its own, with this program, if the
    /// service reaches its guests through a message broker. The program is started with `--config
    /// FILE`, which it reads with [`AgentConfig::read`](trove_core::guest::AgentConfig::read),
    /// with this process's standard error and the given [environment](Self::agent_environment). It
    /// has to [`serve`](trove_core::guest::serve) and exit on SIGTERM; it is restarted when it
    /// exits.
    ///
    /// Agents outlive this process and are found by the next one. By default, agents run in this
    /// process.
    #[must_use]
    pub fn agent_program(mut self, program: impl Into<PathBuf>) -> Self {
        self.agent_program = Some(program.into());
        self
    }

    /// Starts agent processes with these environment variables, for example `std::env::vars_os()`. Only `PATH`,
    /// `HOME`, `TZ`, `RUST_LOG`, `RUST_BACKTRACE` and `DOCKER_HOST` are passed on, because the others may hold
    /// secrets. The default is an empty environment.
    #[must_use]
    pub fn agent_environment(mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let passed = variables.into_iter().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        self.agent_environment = passed.filter(|(name, _)| agents::ENVIRONMENT.contains(&name.as_str())).collect();
        self
    }

    /// Connects to the platform; see [`LocalPlatform::connect`].
    ///
    /// # Errors
    ///
    /// Also [`Invalid`](trove_core::error::Kind::Invalid) if the agent program cannot be executed.
    pub fn connect(self) -> Result<LocalPlatform> {
        if self.ports.is_empty() || *self.ports.start() == 0 {
            return Err(Error::invalid("the range of ports for instances is empty or holds port 0"));
        }
        let agents = self
            .agent_program
            .as_deref()
            .map(|program| AgentSupervisors::new(program, self.agent_environment))
            .transpose()?;
        let root = make_root(&self.root)?;
        let lock = lock(&root)?;
        for part in ["volumes", "guests", "endpoints", "shared"] {
            let path = root.join(part);
            make_private(&path).map_err(|error| failed("create the directory", &path, error))?;
        }
        let trash = Trash::swept(root.join("trash"))?;
        let endpoints = root.join("endpoints");
        networks::remove_draft(&endpoints)
            .map_err(|error| failed("remove a draft of a reservation", &endpoints, error))?;
        let scope = short_hash(root.as_os_str().as_encoded_bytes());
        let (docker, ports, claims) = (self.docker, self.ports, Default::default());
        let firewall = Firewall::open(&network_name(&scope), &root, !networks::reservations(&endpoints)?.is_empty())?;
        let inner = LocalState { root, scope, docker, ports, claims, firewall, trash, agents, _lock: lock };
        inner.claim_reserved()?;
        Ok(LocalPlatform(Arc::new(inner)))
    }
}

impl From<LocalPlatform> for Platform {
    fn from(local: LocalPlatform) -> Self {
        let local = Arc::new(local);
        Self { compute: local.clone(), volumes: local.clone(), networks: local }
    }
}

impl LocalState {
    fn volume(&self, instance: InstanceId) -> PathBuf {
        self.root.join("volumes").join(instance.to_string())
    }

    fn guest(&self, instance: InstanceId) -> PathBuf {
        self.root.join("guests").join(instance.to_string())
    }

    fn shared(&self) -> PathBuf {
        self.root.join("shared")
    }

    fn endpoints(&self) -> PathBuf {
        self.root.join("endpoints")
    }

    fn network(&self) -> String {
        network_name(&self.scope)
    }
}

/// Returns the name of the network and of the table of the packet filter.
fn network_name(scope: &str) -> String {
    format!("trove-{scope}")
}

/// Returns the user that the server of an instance runs as: a user of its own if this process is
/// root, otherwise this process's user, because only root may change owners.
fn server_identity(instance: InstanceId) -> ServerIdentity {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if !uid.is_root() {
        return ServerIdentity { uid: uid.as_raw(), gid: gid.as_raw() };
    }
    let id = FIRST_SERVER_ID + spread(instance.to_string().as_bytes(), SERVER_IDS);
    ServerIdentity { uid: id, gid: id }
}

/// Returns the canonical directory, created if it is absent; an existing one is not changed.
fn make_root(root: &Path) -> Result<PathBuf> {
    let make = || -> io::Result<PathBuf> {
        if let Some(parent) = root.parent() {
            fs::create_dir_all(parent)?;
        }
        match DirBuilder::new().mode(0o700).create(root) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => root.canonicalize(),
        }
    };
    let root = make().map_err(|error| failed("prepare the directory", root, error))?;
    refuse_others(&root)?;
    Ok(root)
}

/// Refuses a directory that belongs to another user, that others can write to, or that has other
/// content.
fn refuse_others(root: &Path) -> Result<()> {
    let cannot = |error| failed("inspect the directory", root, error);
    let found = fs::metadata(root).map_err(cannot)?;
    let refuse = |why: &str| Err(Error::invalid(format!("directory {} {why}", root.display())));
    if found.uid() != rustix::process::geteuid().as_raw() {
        return refuse("belongs to another user");
    }
    if found.mode() & 0o022 != 0 {
        return refuse("can be written to by other users");
    }
    let first = || fs::read_dir(root)?.take(2).map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>();
    let mut names = first().map_err(cannot)?;
    // Every new file system contains this directory.
    names.retain(|name| name != "lost+found");
    if !names.is_empty() && !root.join(LOCK).exists() {
        return refuse("is neither empty nor a platform's directory");
    }
    Ok(())
}

/// Creates a directory that only this process's user can access.
fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    own(path, None, None, 0o700)
}

fn lock(root: &Path) -> Result<File> {
    let (file, since) = (open_lock_file(&root.join(LOCK)), Instant::now());
    let file = file.map_err(|error| failed("lock the directory", root, error))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if since.elapsed() < LOCK_GRACE => thread::sleep(LOCK_POLL_INTERVAL),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::conflict(format!("directory {} is in use by another process", root.display())));
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock the directory", root, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use trove_core::error::Kind;

    use super::*;

    #[test]
    fn root_directories_are_locked_and_their_trash_is_swept() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("deep/er");
        let platform = LocalPlatform::connect(&root).unwrap();
        let error = LocalPlatform::connect(&root).unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict);
        assert!(error.to_string().contains("in use by another process"));
        let scope = platform.scope().to_owned();
        drop(platform);
        fs::create_dir(root.join("trash/volume-x")).unwrap();
        assert_eq!(LocalPlatform::connect(&root).unwrap().scope(), scope);
        assert_eq!(fs::read_dir(root.join("trash")).unwrap().count(), 0);
    }

    #[test]
    fn unsuitable_root_directories_are_refused_unchanged() {
        let directory = tempfile::tempdir().unwrap();
        let make = |name: &str, mode: u32| {
            let path = directory.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        let refused = |path: &Path, words: &str| {
            let before = mode(path);
            let error = LocalPlatform::connect(path).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid);
            assert!(error.to_string().ends_with(words), "{error}");
            assert_eq!(mode(path), before);
            assert!(!path.join(LOCK).exists());
        };
        refused(&make("shared", 0o775), "can be written to by other users");
        let full = make("full", 0o755);
        fs::write(full.join("letter"), "").unwrap();
        refused(&full, "is neither empty nor a platform's directory");
        if rustix::process::geteuid().is_root() {
            let foreign = make("foreign", 0o755);
            std::os::unix::fs::lchown(&foreign, Some(FIRST_SERVER_ID), None).unwrap();
            refused(&foreign, "belongs to another user");
        }

        let given = make("given", 0o755);
        fs::create_dir(given.join("lost+found")).unwrap();
        drop(LocalPlatform::connect(&given).unwrap());
        drop(LocalPlatform::connect(&given).unwrap());
        assert_eq!((mode(&given), mode(&given.join("volumes"))), (0o755, 0o700));
        let made = directory.path().join("made");
        drop(LocalPlatform::connect(&made).unwrap());
        for part in ["", "volumes", "guests", "endpoints", "shared", "trash"] {
            assert_eq!(mode(&made.join(part)), 0o700, "{part}");
        }
    }

    #[test]
    fn server_identities_are_derived_from_instances() {
        let (one, other) = (InstanceId::new_v4(), InstanceId::new_v4());
        assert_eq!(server_identity(one), server_identity(one));
        if rustix::process::geteuid().is_root() {
            assert_ne!(server_identity(one), server_identity(other));
            assert!((FIRST_SERVER_ID..FIRST_SERVER_ID + SERVER_IDS).contains(&server_identity(one).uid));
        }
    }
}
