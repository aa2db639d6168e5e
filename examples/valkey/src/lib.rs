//! Valkey as a datastore, from the public API of `trove-core` and `trove-drivers` alone.
//!
//! Its users are ACL users, who share all data. Acknowledged writes are on disk, unless a tenant
//! weakens `appendfsync`. Valkey cannot authenticate socket peers, so the agent logs in with a
//! password.

mod accounts;
mod parameters;

use std::{io, time::Duration};

use async_trait::async_trait;
use redis::{AsyncConnectionConfig, FromRedisValue, Pipeline, RedisConnectionInfo, RedisError, ServerError, aio};
use tokio::{io::AsyncReadExt, sync::Mutex, time::timeout};
use trove_core::datastore::{Accounts, Cx, GuestHost, Manifest, Prepare, UserStore, Version};
use trove_core::error::{Error, Result};
use trove_core::{model::Settings, secret::ExposeSecret};
use trove_drivers::container::{
    AGENT, ConfigFile, ContainerDriver, Engine, Parameters, Readiness, SOCKETS, UpgradePath,
};
use trove_drivers::container::{admin_password, connect};

/// The Valkey driver, for versions 8.1 and 9. Its images must have `valkey-server` in `PATH`.
pub type Valkey = ContainerDriver<ValkeyEngine>;

/// The permissions of the agent's administrator.
const ADMIN: &str = "-@all +acl +config|get +config|set +info +multi +exec +client|setinfo";
const SOCKET: &str = "valkey.sock";
const DEADLINE: Duration = Duration::from_secs(10);
/// The maximum number of bytes read from the untrusted server in one session.
const MAX_SESSION_BYTES: u64 = 16 << 20;

/// Adds the administrator to the users file, then runs the server.
const SERVE: &str = r#"cd "$0"; umask 077; cp /etc/trove/admin.acl users.new
[ ! -e users.acl ] || sed '/^user \(default\|trove_admin\) /d' users.acl >> users.new
sync users.new; mv users.new users.acl; exec valkey-server /etc/trove/valkey.conf"#;

/// The Valkey server of one instance.
pub struct ValkeyEngine {
    host: GuestHost,
    session: Mutex<Option<aio::MultiplexedConnection>>,
    changes: Mutex<()>,
}

#[async_trait]
impl Engine for ValkeyEngine {
    fn manifest() -> Manifest {
        let mut manifest = Manifest::new("valkey", Version::new("8.1", "valkey/valkey:8.1"), 6379);
        manifest.versions.push(Version::new("9.1", "valkey/valkey:9.1"));
        manifest.series = ["8.1", "9"].map(str::to_owned).into();
        // Clients of all languages know this scheme.
        manifest.uri_scheme = "redis".to_owned();
        manifest.accounts = Some(Self::rules(64, &["default"]));
        (manifest.configuration, manifest.upgrade) = (true, true);
        manifest
    }

    fn new(host: &GuestHost) -> Self {
        Self { host: host.clone(), session: Mutex::default(), changes: Mutex::default() }
    }

    fn files(&self, host: &GuestHost, settings: &Settings) -> Vec<ConfigFile> {
        // Without a password nobody can log in, and the start fails.
        let admin =
            admin_password(host).map(|password| format!("on {}", self.hash_password(&password))).unwrap_or_default();
        // The rest is for client buffers and for copy-on-write during a rewrite of the log.
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
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        let version = field("valkey_version:").to_owned();
        match (field("loading:"), field("aof_last_write_status:")) {
            ("0", "ok") => Readiness::Ready { version },
            ("0", _) => Readiness::ReadOnly { version },
            _ => Readiness::Starting,
        }
    }

    /// The message follows the configuration line that it is about.
    fn startup_error(&self, output: &str) -> Option<String> {
        output.lines().skip_while(|line| !line.starts_with(">>>")).nth(1).map(str::to_owned)
    }

    async fn provision(&self, _cx: &Cx, spec: &Prepare) -> Result<()> {
        self.upsert(&spec.users).await
    }

    fn accounts(&self) -> Option<&dyn Accounts> {
        Some(self)
    }

    fn parameters(&self) -> Option<&dyn Parameters> {
        Some(self)
    }
}

impl ValkeyEngine {
    /// Runs a command; an error reply of the server is an error.
    async fn call<T: FromRedisValue>(&self, command: &str, words: &[&str]) -> Result<T> {
        self.run(redis::pipe().cmd(command).arg(words)).await?.map(|(reply,)| reply).map_err(rejected)
    }

    /// Runs commands in the cached session, and returns the server's reply or error reply.
    async fn run<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<Result<T, ServerError>> {
        let mut cached = self.session.lock().await;
        if let Some(session) = cached.as_mut() {
            match commands.query_async(session).await {
                // The server restarted, or the session reached its byte limit. All commands are idempotent.
                Err(error) if error.is_unrecoverable_error() => {}
                result => return reply(result),
            }
        }
        let session = cached.insert(self.open().await.map_err(unavailable)?);
        reply(commands.query_async(session).await)
    }

    async fn open(&self) -> Result<aio::MultiplexedConnection, RedisError> {
        let password = admin_password(&self.host).map_err(io::Error::other)?;
        let login = RedisConnectionInfo::default().set_username(AGENT).set_password(password.expose_secret());
        let limits = AsyncConnectionConfig::new().set_response_timeout(Some(DEADLINE));
        let (read, write) = connect(&self.host.directory.join("run"), SOCKET, self.host.server.uid).await?.into_split();
        let stream = tokio::io::join(read.take(MAX_SESSION_BYTES), write);
        let opened = aio::MultiplexedConnection::new_with_config(&login, stream, limits);
        let (session, exchange) = timeout(DEADLINE, opened).await.map_err(io::Error::from)??;
        tokio::spawn(exchange);
        Ok(session)
    }
}

/// Separates an error reply of the server from a failure to get a reply.
fn reply<T>(result: Result<T, RedisError>) -> Result<Result<T, ServerError>> {
    result.map(Ok).or_else(|error| match error.clone().into_server_errors().as_deref() {
        Some([(_, reply), ..]) => Ok(Err(reply.clone())),
        _ => Err(unavailable(error)),
    })
}

fn unavailable(error: RedisError) -> Error {
    Error::unavailable("the server does not answer").with_source(error)
}

fn rejected(reply: ServerError) -> Error {
    Error::invalid(reply.details().unwrap_or(reply.code()))
}
