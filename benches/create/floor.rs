//! The least that a new PostgreSQL in a container takes.

use std::{
    fs::{self, File},
    future::Future,
    net::{Ipv4Addr, TcpListener},
    os::{fd::AsRawFd, unix::fs::chown},
    path::{Path, PathBuf},
    time::Instant,
};

use tokio::time::sleep;
use tokio_postgres::NoTls;
use trove_benches::{Result, Site};
use trove_core::model::{Endpoint, Flavor};

use super::{
    Marks, PASSWORD, POLL,
    client::{self, Client, Container, Port},
    first_query,
};

const DATA: &str = "/var/lib/postgresql/data";
const SOCKETS: &str = "/sockets";
const PORT: u16 = 5432;
const ENVIRONMENT: [&str; 2] =
    ["PATH=/usr/lib/postgresql/17/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"];

/// The user that servers run as where this process may give files away.
const SERVER: u32 = 2_100_000_000;

/// How often a server is asked before it counts as lost.
const TRIES: usize = 3000;

/// A way to make servers below a site.
pub(super) struct Floor<'a> {
    site: &'a Site,
    flavor: &'a Flavor,
    client: Client,
    user: u32,
}

/// Makes the network that the floor's servers are published from. It goes with the site.
pub(super) async fn make_network(site: &Site) -> Result<()> {
    client::make_network(network(site), site.label()).await
}

impl<'a> Floor<'a> {
    pub(super) fn new(site: &'a Site, flavor: &'a Flavor, client: Client) -> Self {
        let user = rustix::process::geteuid();
        let user = if user.is_root() { SERVER } else { user.as_raw() };
        Self { site, flavor, client, user }
    }

    /// Makes a server with a database and a user, asks it something as that user, and removes it.
    pub(super) async fn create(&self, name: &str) -> Result<Marks> {
        let directory = self.site.subdirectory(name)?;
        let name = format!("bench-{}-{name}", self.site.label().1);
        let started = Instant::now();
        let mut marks = Marks::new();
        let mut mark = |what: &str| marks.push((what.to_owned(), started.elapsed()));

        self.lay_out(&directory)?;
        self.client.run(&self.container(format!("{name}-init"), &directory, initdb(), None)).await?;
        let_in(&directory)?;
        mark("initialised");
        let port = free_port()?;
        let published = Port { network: network(self.site), container: PORT, host: port };
        self.client.start(&self.container(name.clone(), &directory, postgres(), Some(published))).await?;
        mark("started");
        let sockets = directory.join("sockets");
        retry(async || make_accounts(&sockets).await).await?;
        mark("accounts made");
        let endpoint = Endpoint { host: Ipv4Addr::LOCALHOST.to_string(), port };
        retry(async || first_query(&endpoint).await).await?;
        mark("first query");

        self.client.remove(&name).await?;
        fs::remove_dir_all(&directory)?;
        Ok(marks)
    }

    fn lay_out(&self, directory: &Path) -> Result<()> {
        for part in ["data", "sockets"] {
            let path = directory.join(part);
            fs::create_dir(&path)?;
            chown(&path, Some(self.user), Some(self.user))?;
        }
        // initdb wants to know its user's name.
        let passwd = format!("server:x:{0}:{0}:server:/:/usr/sbin/nologin\n", self.user);
        Ok(fs::write(directory.join("passwd"), passwd)?)
    }

    fn container(&self, name: String, directory: &Path, command: Vec<String>, port: Option<Port>) -> Container {
        let (label, scope) = self.site.label();
        let binds = [("data", DATA), ("sockets", SOCKETS), ("passwd", "/etc/passwd:ro")];
        Container {
            name,
            image: self.site.postgresql().to_owned(),
            label: (label.to_owned(), scope.to_owned()),
            command,
            environment: ENVIRONMENT.map(str::to_owned).into(),
            user: self.user,
            memory: self.flavor.memory.as_bytes(),
            cpus: self.flavor.vcpus,
            binds: binds.map(|(part, target)| format!("{}:{target}", directory.join(part).display())).into(),
            port,
        }
    }
}

fn network(site: &Site) -> String {
    format!("bench-{}", site.label().1)
}

/// With what the driver asks for too, and trust for whom the socket's directory lets in.
fn initdb() -> Vec<String> {
    let data = format!("--pgdata={DATA}/pgdata");
    let options = ["--username=admin", "--auth-host=reject", "--encoding=UTF8", "--locale-provider=builtin"];
    let more = ["--locale=C.UTF-8", "--data-checksums", "--no-instructions", "--auth-local=trust"];
    ["initdb", &data].into_iter().chain(options).chain(more).map(str::to_owned).collect()
}

fn postgres() -> Vec<String> {
    let sockets = format!("--unix_socket_directories={SOCKETS}");
    ["postgres", "-D", &format!("{DATA}/pgdata"), &sockets, "--listen_addresses=*"].map(str::to_owned).into()
}

/// Lets users in over the network.
fn let_in(directory: &Path) -> Result<()> {
    let rules = directory.join("data/pgdata/pg_hba.conf");
    Ok(fs::write(rules, "local all admin trust\nhost all all all scram-sha-256\n")?)
}

async fn make_accounts(sockets: &PathBuf) -> Result<(), tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    // The path of a socket must not exceed 107 bytes; a descriptor's is short.
    let directory = File::open(sockets).ok();
    let short = directory.as_ref().map(|directory| PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())));
    config.host_path(short.as_ref().unwrap_or(sockets)).port(PORT).user("admin").dbname("postgres");
    let (client, connection) = config.connect(NoTls).await?;
    let io = tokio::spawn(connection);
    client.batch_execute(&format!("CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")).await?;
    client.batch_execute("CREATE DATABASE app OWNER app TEMPLATE template0").await?;
    io.abort();
    Ok(())
}

/// Tries until it works or has failed for too long.
async fn retry<T, E: Into<Box<dyn std::error::Error + Send + Sync>>, F: Future<Output = Result<T, E>>>(
    mut attempt: impl FnMut() -> F,
) -> Result<T> {
    for _ in 1..TRIES {
        if let Ok(done) = attempt().await {
            return Ok(done);
        }
        sleep(POLL).await;
    }
    attempt().await.map_err(Into::into)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
