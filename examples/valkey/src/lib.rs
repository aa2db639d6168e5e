//! Valkey as a datastore, from the public API of `trove-core` and `trove-drivers` alone.
//!
//! Its users are ACL users, who share what the server holds. What was acknowledged is on disk, unless a tenant sets
//! `appendfsync` to less. Valkey knows nobody by the socket, so the administrator has a password that only the agent has.

mod accounts;
mod parameters;
mod resp;

use async_trait::async_trait;
use tokio::{net::UnixStream, sync::Mutex};
use trove_core::datastore::{AccountRules, Accounts, Cx, GuestHost, Manifest, Prepare, Version};
use trove_core::error::{Error, Result};
use trove_core::{model::Settings, secret::ExposeSecret};
use trove_drivers::container::{AGENT, Answer, ConfigFile, ContainerDriver, Engine, Parameters, SOCKETS, UpgradePath};
use trove_drivers::container::{admin_password, connect};

pub use resp::Client;

/// The Valkey driver, for versions 8.1 and 9. Its images have `valkey-server` in `PATH`.
pub type Valkey = ContainerDriver<ValkeyEngine>;

const SOCKET: &str = "valkey.sock";

/// Has the administrator among the users before anybody can come in.
const SERVE: &str = r#"cd "$0"; umask 077; cp /etc/trove/admin.acl users.new
[ ! -e users.acl ] || sed '/^user \(default\|trove_admin\) /d' users.acl >> users.new
sync users.new; mv users.new users.acl; exec valkey-server /etc/trove/valkey.conf"#;

/// The server of one instance.
pub struct ValkeyEngine {
    host: GuestHost,
    session: Mutex<Option<Client<UnixStream>>>,
    /// Held by who looks at the users and then changes them.
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
        let mut rules = AccountRules::new(64);
        rules.databases = false;
        rules.reserved_users = ["default", accounts::ROOT].map(str::to_owned).into();
        manifest.accounts = Some(rules);
        manifest
    }

    fn new(host: &GuestHost) -> Self {
        Self { host: host.clone(), session: Mutex::default(), changing: Mutex::default() }
    }

    fn files(&self, host: &GuestHost, settings: &Settings) -> Vec<ConfigFile> {
        // Where it cannot be kept, nobody is let in, and the start fails.
        let password = admin_password(host).map(|password| format!("on {}", accounts::hash(&password)));
        let (admin, rights) =
            (password.unwrap_or_default(), "-@all +acl +config|get +config|set +info +ping +multi +exec");
        // The rest is for sessions, and for what a rewrite of the log copies.
        let memory = host.flavor.memory.as_bytes() / 10 * 6;
        let data = format!("{}/{}", self.volume_target(), self.data_directory());
        let fixed = format!(
            "bind * -::*\nunixsocket {SOCKETS}/{SOCKET}\nunixsocketperm 700\ndir {data}\naclfile {data}/users.acl\n\
             appendonly yes\nsave \"\"\nmaxmemory {memory}\n"
        );
        vec![
            ConfigFile::new("admin.acl", format!("user default off\nuser {AGENT} {admin} {rights}\n")),
            ConfigFile::new("valkey.conf", fixed + &parameters::lines(settings)),
        ]
    }

    fn serve(&self, _host: &GuestHost, data: &str) -> Vec<String> {
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

    async fn ask(&self) -> Answer {
        let info = match self.call(&[vec!["INFO", "server", "persistence"]]).await {
            Ok(info) => info.concat(),
            Err(error) => return Answer::No(error),
        };
        let says = |line: &str| info.lines().find_map(|found| found.strip_prefix(line)).unwrap_or_default();
        let version = says("valkey_version:").to_owned();
        match (says("loading:"), says("aof_last_write_status:")) {
            ("0", "ok") => Answer::Yes { version },
            ("0", _) => Answer::ReadOnly { version },
            _ => Answer::NotYet,
        }
    }

    /// It follows the line that it is about.
    fn complaint(&self, output: &str) -> Option<String> {
        output.lines().skip_while(|line| !line.starts_with(">>>")).nth(1).map(str::to_owned)
    }

    async fn provision(&self, _cx: &Cx, spec: &Prepare) -> Result<()> {
        self.change(&accounts::hashed(&spec.users), None).await
    }

    fn accounts(&self) -> Option<&dyn Accounts> {
        Some(self)
    }

    fn parameters(&self) -> Option<&dyn Parameters> {
        Some(self)
    }
}

impl ValkeyEngine {
    /// Has the server do this in one session, and returns what it answers to the last.
    async fn call(&self, commands: &[Vec<&str>]) -> Result<Vec<String>> {
        let (mut kept, mut answer) = (self.session.lock().await, Vec::new());
        // It is kept again only where it is not left in the middle of an answer.
        let mut session = self.log_in(kept.take()).await?;
        for command in commands {
            answer = session.call(command).await?;
        }
        *kept = Some(session);
        Ok(answer)
    }

    async fn log_in(&self, kept: Option<Client<UnixStream>>) -> Result<Client<UnixStream>> {
        if let Some(mut session) = kept
            && session.call(&["PING"]).await.is_ok()
        {
            return Ok(session);
        }
        let stream = connect(&self.host.directory.join("run"), SOCKET, self.host.server.uid).await;
        let mut session = Client::new(stream.map_err(|error| Error::unavailable("nobody listens").because(error))?);
        session.call(&["AUTH", AGENT, admin_password(&self.host)?.expose_secret()]).await?;
        Ok(session)
    }
}
