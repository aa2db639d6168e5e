//! Valkey as a datastore, from the public API of `trove-core` and `trove-drivers` alone.
//!
//! Its users are ACL users, who share what the server holds. What was acknowledged is on disk, unless a tenant sets
//! `appendfsync` to less. Valkey knows nobody by the socket, so the administrator has a password that only the agent has.

mod accounts;
mod parameters;

use std::{io, time::Duration};

use async_trait::async_trait;
use redis::{AsyncConnectionConfig, FromRedisValue, Pipeline, RedisConnectionInfo, RedisError, aio};
use tokio::{io::AsyncReadExt, sync::Mutex, time::timeout};
use trove_core::datastore::{Accounts, Cx, GuestHost, Logins, Manifest, Prepare, Version};
use trove_core::error::{Error, Result};
use trove_core::{model::Settings, secret::ExposeSecret};
use trove_drivers::container::{
    AGENT, ConfigFile, ContainerDriver, Engine, Parameters, Readiness, SOCKETS, UpgradePath,
};
use trove_drivers::container::{admin_password, connect};

/// The Valkey driver, for versions 8.1 and 9. Its images have `valkey-server` in `PATH`.
pub type Valkey = ContainerDriver<ValkeyEngine>;

/// What the administrator may do.
const ADMIN: &str = "-@all +acl +config|get +config|set +info +multi +exec +client|setinfo";
const SOCKET: &str = "valkey.sock";
const DEADLINE: Duration = Duration::from_secs(10);
/// How many bytes the server is heard for in one session. It is not trusted.
const LONGEST: u64 = 16 << 20;

/// Has the administrator among the users before anybody can come in.
const SERVE: &str = r#"cd "$0"; umask 077; cp /etc/trove/admin.acl users.new
[ ! -e users.acl ] || sed '/^user \(default\|trove_admin\) /d' users.acl >> users.new
sync users.new; mv users.new users.acl; exec valkey-server /etc/trove/valkey.conf"#;

/// The server of one instance.
pub struct ValkeyEngine {
    host: GuestHost,
    session: Mutex<Option<aio::MultiplexedConnection>>,
    changing: Mutex<()>,
}

#[async_trait]
impl Engine for ValkeyEngine {
    fn manifest() -> Manifest {
        let mut manifest = Manifest::new("valkey", Version::new("8.1", "valkey/valkey:8.1"), 6379);
        manifest.versions.push(Version::new("9.1", "valkey/valkey:9.1"));
        manifest.series = ["8.1", "9"].map(str::to_owned).into();
        // The one that clients of all languages know.
        manifest.uri_scheme = "redis".to_owned();
        manifest.accounts = Some(Self::rules(64, &["default"]));
        manifest
    }

    fn new(host: &GuestHost) -> Self {
        Self { host: host.clone(), session: Mutex::default(), changing: Mutex::default() }
    }

    fn files(&self, host: &GuestHost, settings: &Settings) -> Vec<ConfigFile> {
        // Where it cannot be kept, nobody is let in, and the start fails.
        let admin = admin_password(host).map(|password| format!("on {}", self.verifier(&password))).unwrap_or_default();
        // The rest is for sessions, and for what a rewrite of the log copies.
        let memory = host.flavor.memory.as_bytes() / 10 * 6;
        let data = format!("{}/{}", self.volume_target(), self.data_directory());
        let fixed = format!(
            "bind * -::*\nunixsocket {SOCKETS}/{SOCKET}\nunixsocketperm 700\ndir {data}\naclfile {data}/users.acl\n\
             appendonly yes\nsave \"\"\nmaxmemory {memory}\n"
        );
        vec![
            ConfigFile::new("admin.acl", format!("user default off\nuser {AGENT} {admin} {ADMIN}\n")),
            ConfigFile::new("valkey.conf", fixed + &parameters::lines(settings)),
        ]
    }

    fn server_command(&self, _host: &GuestHost, data: &str) -> Vec<String> {
        ["sh", "-euc", SERVE, data].map(str::to_owned).into()
    }

    fn version_command(&self) -> Option<Vec<String>> {
        Some(["valkey-server", "--version"].map(str::to_owned).into())
    }

    fn read_version(&self, output: &str) -> Option<String> {
        output.strip_prefix("Valkey server v=")?.split(' ').next().map(str::to_owned)
    }

    fn upgrade_path(&self, from: &str, to: &str) -> Result<UpgradePath> {
        UpgradePath::forward(from, to, 2)
    }

    async fn probe(&self) -> Readiness {
        let info: String = match self.call("INFO", &["server", "persistence"]).await {
            Ok(info) => info,
            Err(error) => return Readiness::Unreachable(error),
        };
        let says = |line: &str| info.lines().find_map(|found| found.strip_prefix(line)).unwrap_or_default();
        let version = says("valkey_version:").to_owned();
        match (says("loading:"), says("aof_last_write_status:")) {
            ("0", "ok") => Readiness::Ready { version },
            ("0", _) => Readiness::ReadOnly { version },
            _ => Readiness::Starting,
        }
    }

    /// It follows the line that it is about.
    fn startup_error(&self, output: &str) -> Option<String> {
        output.lines().skip_while(|line| !line.starts_with(">>>")).nth(1).map(str::to_owned)
    }

    async fn provision(&self, _cx: &Cx, spec: &Prepare) -> Result<()> {
        self.put(&spec.users).await
    }

    fn accounts(&self) -> Option<&dyn Accounts> {
        Some(self)
    }

    fn parameters(&self) -> Option<&dyn Parameters> {
        Some(self)
    }
}

impl ValkeyEngine {
    /// Has the server do one thing.
    async fn call<T: FromRedisValue>(&self, command: &str, words: &[&str]) -> Result<T> {
        self.run(redis::pipe().cmd(command).arg(words)).await.map(|(answer,)| answer)
    }

    /// Has the server do these things, in the session that is kept.
    async fn run<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T> {
        let mut kept = self.session.lock().await;
        if let Some(session) = kept.as_mut() {
            match commands.query_async(session).await {
                // That server is gone, or said all that it is heard for. Everything here may be done twice.
                Err(error) if error.is_unrecoverable_error() => {}
                done => return done.map_err(failed),
            }
        }
        let session = kept.insert(self.open().await.map_err(failed)?);
        commands.query_async(session).await.map_err(failed)
    }

    async fn open(&self) -> Result<aio::MultiplexedConnection, RedisError> {
        let password = admin_password(&self.host).map_err(io::Error::other)?;
        let login = RedisConnectionInfo::default().set_username(AGENT).set_password(password.expose_secret());
        let limits = AsyncConnectionConfig::new().set_response_timeout(Some(DEADLINE));
        let (read, write) = connect(&self.host.directory.join("run"), SOCKET, self.host.server.uid).await?.into_split();
        let stream = tokio::io::join(read.take(LONGEST), write);
        let opened = aio::MultiplexedConnection::new_with_config(&login, stream, limits);
        let (session, exchange) = timeout(DEADLINE, opened).await.map_err(io::Error::from)??;
        tokio::spawn(exchange);
        Ok(session)
    }
}

/// What the server refuses is invalid, in its words.
fn failed(error: RedisError) -> Error {
    match error.clone().into_server_errors().as_deref() {
        Some([(_, refusal), ..]) => Error::invalid(refusal.details().unwrap_or(refusal.code())),
        _ => Error::unavailable("the server does not answer").because(error),
    }
}
