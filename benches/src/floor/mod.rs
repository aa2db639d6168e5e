//! The least that a new server in a container takes: a container that initialises, one that serves on a port of
//! loopback, a database and a user made over the server's socket. Memory, processors and user are limited as an
//! instance's are, and the data is on the same file system.

mod bare;
mod container;

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

use crate::{Marks, Result, Session, Site};
use bare::{Bare, SOCKETS};
use container::{Container, Port};

pub use container::Client;

/// The user that servers run as where this process may give files away.
const SERVER: u32 = 2_100_000_000;

/// How often a server is asked whether it answers, and how many times before it counts as lost.
const POLL: Duration = Duration::from_millis(10);
const TRIES: usize = 6000;

/// A way to make servers below a site.
pub struct Floor<'a> {
    site: &'a Site,
    flavor: &'a Flavor,
    client: Client,
    user: u32,
    bare: Bare,
    password: &'a str,
}

/// A server with a database and a user, both called `app`.
pub struct Server<'a> {
    floor: &'a Floor<'a>,
    name: String,
    directory: PathBuf,
    endpoint: Endpoint,
}

impl<'a> Floor<'a> {
    /// Servers made by a client; their user has this password. The site's [network](Self::make_network) has to be there.
    pub fn new(site: &'a Site, flavor: &'a Flavor, client: Client, password: &'a str) -> Self {
        let user = rustix::process::geteuid();
        let user = if user.is_root() { SERVER } else { user.as_raw() };
        Self { site, flavor, client, user, bare: Bare::new(site.engine(), password), password }
    }

    /// Makes the network that a site's servers are published from. It goes with the site.
    pub async fn make_network(site: &Site) -> Result<()> {
        container::make_network(network(site), site.label()).await
    }

    /// Makes a data directory that servers can be copied from.
    pub async fn template(&self, name: &str) -> Result<PathBuf> {
        let directory = self.lay_out(name)?;
        self.initialise(name, &directory).await?;
        Ok(directory.join("volume/data"))
    }

    /// Makes a server, with new data or a copy of a template, and asks it something as its user.
    pub async fn create(&self, name: &str, template: Option<&Path>, marks: &mut Marks) -> Result<Server<'_>> {
        let directory = self.lay_out(name)?;
        match template {
            Some(template) => self.copy(template, &directory).await?,
            None => self.initialise(name, &directory).await?,
        }
        for (file, content) in self.bare.files {
            fs::write(directory.join("volume/data").join(file), content)?;
        }
        marks.reach(if template.is_some() { "copied" } else { "initialised" });
        let endpoint = Endpoint { host: Ipv4Addr::LOCALHOST.to_string(), port: free_port()? };
        let server = Server { floor: self, name: self.container_name(name), directory, endpoint };
        server.start(&[]).await?;
        marks.reach("started");
        let mut session = retry(async || server.administer().await).await?;
        for statement in &self.bare.accounts {
            session.run(statement).await?;
        }
        marks.reach("accounts made");
        server.answered().await?;
        marks.reach("first query");
        Ok(server)
    }

    fn lay_out(&self, name: &str) -> Result<PathBuf> {
        let directory = self.site.subdirectory(name)?;
        for part in ["volume", "sockets"] {
            let path = directory.join(part);
            DirBuilder::new().mode(0o700).create(&path)?;
            chown(&path, Some(self.user), Some(self.user))?;
        }
        // initdb wants to know its user's name.
        let passwd = format!("server:x:{0}:{0}:server:/:/usr/sbin/nologin\n", self.user);
        fs::write(directory.join("passwd"), passwd)?;
        Ok(directory)
    }

    async fn initialise(&self, name: &str, directory: &Path) -> Result<()> {
        let name = format!("{}-init", self.container_name(name));
        self.client.run(&self.container(&name, directory, &self.bare.initialise, None)).await
    }

    async fn copy(&self, template: &Path, directory: &Path) -> Result<()> {
        let data = directory.join("volume/data");
        let copied = Command::new("cp").args(["--archive", "--reflink=auto"]).arg(template).arg(&data).status().await?;
        if !copied.success() {
            return Err("a template cannot be copied".into());
        }
        for file in self.bare.individual {
            fs::remove_file(data.join(file))?;
        }
        Ok(())
    }

    fn container(&self, name: &str, directory: &Path, command: &[String], port: Option<Port>) -> Container {
        let (label, scope) = self.site.label();
        let binds = [("volume", self.bare.volume), ("sockets", SOCKETS), ("passwd", "/etc/passwd:ro")];
        let path = format!("PATH={}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", self.bare.path);
        Container {
            name: name.to_owned(),
            image: self.site.image().to_owned(),
            label: (label.to_owned(), scope.to_owned()),
            command: command.to_vec(),
            environment: vec![path, "LANG=C.UTF-8".to_owned()],
            user: self.user,
            memory: self.flavor.memory.as_bytes(),
            cpus: self.flavor.vcpus,
            binds: binds.map(|(part, target)| format!("{}:{target}", directory.join(part).display())).into(),
            port,
        }
    }

    fn container_name(&self, name: &str) -> String {
        format!("bench-{}-{name}", self.site.label().1)
    }
}

impl Server<'_> {
    /// The name of its container.
    pub fn container(&self) -> &str {
        &self.name
    }

    /// A session of its administrator.
    pub async fn administer(&self) -> Result<Session> {
        let directory = self.directory.join("sockets");
        Session::local(self.floor.site.engine(), &directory, self.floor.bare.administrator).await
    }

    /// A session of its user.
    pub async fn connect(&self) -> Result<Session> {
        Session::connect(self.floor.site.engine(), &self.endpoint, "app", "app", self.floor.password).await
    }

    /// Restarts it with these options besides; returns once it answers its user.
    pub async fn restart(&self, options: &[String]) -> Result<()> {
        self.floor.client.stop(&self.name, self.floor.bare.stop_signal).await?;
        self.floor.client.remove(&self.name).await?;
        self.start(options).await?;
        self.answered().await
    }

    /// Removes it with its data.
    pub async fn remove(self) -> Result<()> {
        self.floor.client.remove(&self.name).await?;
        Ok(fs::remove_dir_all(&self.directory)?)
    }

    async fn start(&self, options: &[String]) -> Result<()> {
        let floor = self.floor;
        let port = Port { network: network(floor.site), container: floor.bare.port, host: self.endpoint.port };
        let command = [floor.bare.serve.as_slice(), options].concat();
        floor.client.start(&floor.container(&self.name, &self.directory, &command, Some(port))).await
    }

    async fn answered(&self) -> Result<()> {
        retry(async || self.connect().await?.ask("SELECT 1").await).await.map(drop)
    }
}

fn network(site: &Site) -> String {
    format!("bench-{}", site.label().1)
}

/// Tries until it works or has failed for too long.
async fn retry<T, F: Future<Output = Result<T>>>(mut attempt: impl FnMut() -> F) -> Result<T> {
    for _ in 1..TRIES {
        if let Ok(done) = attempt().await {
            return Ok(done);
        }
        sleep(POLL).await;
    }
    attempt().await
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
