//! Database servers with the minimum of work: one container initializes the data directory, another
//! one serves on a loopback port, and a database and a user are created over the Unix socket. The
//! limits on memory and processors, the kind of user and the file system are those of an instance.

mod container;
mod engine_spec;

use std::{
    fs::{self, DirBuilder},
    future::Future,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::{DirBuilderExt, chown},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{process::Command, time::sleep};
use trove_core::model::{Endpoint, Flavor};

use crate::{BenchHost, Result, SqlClient, Timeline};
use container::{ContainerSpec, PublishedPort};
use engine_spec::{EngineSpec, SOCKET_DIRECTORY};

pub use container::DockerClient;

/// The user that servers run as if this process runs as root.
const SERVER_UID: u32 = 2_100_000_000;

/// The interval and the maximum number of attempts to connect to a starting server.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
const MAX_ATTEMPTS: usize = 6000;

/// Creates baseline servers on a host.
pub struct Baseline<'a> {
    host: &'a BenchHost,
    flavor: &'a Flavor,
    client: DockerClient,
    uid: u32,
    engine: EngineSpec,
    password: &'a str,
}

/// A server with a database and a user, both named `app`.
pub struct BaselineServer<'a> {
    baseline: &'a Baseline<'a>,
    name: String,
    directory: PathBuf,
    endpoint: Endpoint,
}

impl<'a> Baseline<'a> {
    /// Prepares to create servers of a flavor. Requires the [network](Self::create_network) of the
    /// host.
    pub fn new(host: &'a BenchHost, flavor: &'a Flavor, client: DockerClient, password: &'a str) -> Self {
        let uid = rustix::process::geteuid();
        let uid = if uid.is_root() { SERVER_UID } else { uid.as_raw() };
        Self { host, flavor, client, uid, engine: EngineSpec::new(host.engine(), password), password }
    }

    /// Creates the network of the servers of a host. It is removed with the host.
    pub async fn create_network(host: &BenchHost) -> Result<()> {
        container::create_network(network(host), host.label()).await
    }

    /// Initializes a data directory that servers can copy.
    pub async fn create_template(&self, name: &str) -> Result<PathBuf> {
        let directory = self.create_directories(name)?;
        self.initialize(name, &directory).await?;
        Ok(directory.join("volume/data"))
    }

    /// Creates a server with new data or a copy of a template, and runs a query as its user.
    pub async fn create(
        &self,
        name: &str,
        template: Option<&Path>,
        timeline: &mut Timeline,
    ) -> Result<BaselineServer<'_>> {
        let directory = self.create_directories(name)?;
        match template {
            Some(template) => self.copy(template, &directory).await?,
            None => self.initialize(name, &directory).await?,
        }
        for (file, content) in self.engine.files {
            fs::write(directory.join("volume/data").join(file), content)?;
        }
        timeline.record(if template.is_some() { "copied" } else { "initialized" });
        let endpoint = Endpoint { host: Ipv4Addr::LOCALHOST.to_string(), port: free_port()? };
        let server = BaselineServer { baseline: self, name: self.container_name(name), directory, endpoint };
        server.start(&[]).await?;
        timeline.record("started");
        let mut client = retry(async || server.connect_as_administrator().await).await?;
        for statement in &self.engine.account_statements {
            client.execute(statement).await?;
        }
        timeline.record("accounts created");
        server.wait_until_ready().await?;
        timeline.record("first query");
        Ok(server)
    }

    fn create_directories(&self, name: &str) -> Result<PathBuf> {
        let directory = self.host.subdirectory(name)?;
        for name in ["volume", "sockets"] {
            let path = directory.join(name);
            DirBuilder::new().mode(0o700).create(&path)?;
            chown(&path, Some(self.uid), Some(self.uid))?;
        }
        // initdb requires a user name.
        let passwd = format!("server:x:{0}:{0}:server:/:/usr/sbin/nologin\n", self.uid);
        fs::write(directory.join("passwd"), passwd)?;
        Ok(directory)
    }

    async fn initialize(&self, name: &str, directory: &Path) -> Result<()> {
        let name = format!("{}-init", self.container_name(name));
        self.client.run(&self.container(&name, directory, &self.engine.init_command, None)).await
    }

    async fn copy(&self, template: &Path, directory: &Path) -> Result<()> {
        let data = directory.join("volume/data");
        let status = Command::new("cp").args(["--archive", "--reflink=auto"]).arg(template).arg(&data).status().await?;
        if !status.success() {
            return Err("could not copy the template".into());
        }
        for file in self.engine.unique_files {
            fs::remove_file(data.join(file))?;
        }
        Ok(())
    }

    fn container(
        &self,
        name: &str,
        directory: &Path,
        command: &[String],
        port: Option<PublishedPort>,
    ) -> ContainerSpec {
        let (label, scope) = self.host.label();
        let binds = [("volume", self.engine.volume), ("sockets", SOCKET_DIRECTORY), ("passwd", "/etc/passwd:ro")];
        let path = format!("PATH={}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", self.engine.path);
        ContainerSpec {
            name: name.to_owned(),
            image: self.host.image().to_owned(),
            label: (label.to_owned(), scope.to_owned()),
            command: command.to_vec(),
            environment: vec![path, "LANG=C.UTF-8".to_owned()],
            uid: self.uid,
            memory: self.flavor.memory.as_bytes(),
            cpus: self.flavor.vcpus,
            binds: binds.map(|(source, target)| format!("{}:{target}", directory.join(source).display())).into(),
            port,
        }
    }

    fn container_name(&self, name: &str) -> String {
        format!("bench-{}-{name}", self.host.label().1)
    }
}

impl BaselineServer<'_> {
    /// Returns the name of the container.
    pub fn container(&self) -> &str {
        &self.name
    }

    /// Connects as the administrator.
    pub async fn connect_as_administrator(&self) -> Result<SqlClient> {
        let directory = self.directory.join("sockets");
        SqlClient::connect_locally(self.baseline.host.engine(), &directory, self.baseline.engine.administrator).await
    }

    /// Connects as the user `app`.
    pub async fn connect(&self) -> Result<SqlClient> {
        let baseline = self.baseline;
        SqlClient::connect(baseline.host.engine(), &self.endpoint, "app", "app", baseline.password).await
    }

    /// Restarts the server with additional options and waits until the user `app` can run a query.
    pub async fn restart(&self, options: &[String]) -> Result<()> {
        self.baseline.client.stop(&self.name, self.baseline.engine.stop_signal).await?;
        self.baseline.client.remove(&self.name).await?;
        self.start(options).await?;
        self.wait_until_ready().await
    }

    /// Removes the server and its data.
    pub async fn remove(self) -> Result<()> {
        self.baseline.client.remove(&self.name).await?;
        Ok(fs::remove_dir_all(&self.directory)?)
    }

    async fn start(&self, options: &[String]) -> Result<()> {
        let baseline = self.baseline;
        let (container, host) = (baseline.engine.port, self.endpoint.port);
        let port = PublishedPort { network: network(baseline.host), container, host };
        let command = [baseline.engine.server_command.as_slice(), options].concat();
        baseline.client.start(&baseline.container(&self.name, &self.directory, &command, Some(port))).await
    }

    async fn wait_until_ready(&self) -> Result<()> {
        retry(async || self.connect().await?.query("SELECT 1").await).await.map(drop)
    }
}

fn network(host: &BenchHost) -> String {
    format!("bench-{}", host.label().1)
}

/// Repeats an attempt until it succeeds or the maximum number of attempts is reached.
async fn retry<T, F: Future<Output = Result<T>>>(mut attempt: impl FnMut() -> F) -> Result<T> {
    for _ in 1..MAX_ATTEMPTS {
        if let Ok(value) = attempt().await {
            return Ok(value);
        }
        sleep(POLL_INTERVAL).await;
    }
    attempt().await
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
