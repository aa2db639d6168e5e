//! Containers as barely as they can be had.

use std::{collections::HashMap, io::Write, net::Ipv4Addr, process::Stdio};

use bollard::{
    Docker,
    models::{ContainerCreateBody, HostConfig, NetworkCreateRequest, PortBinding},
    query_parameters::{
        CreateContainerOptionsBuilder, KillContainerOptionsBuilder, RemoveContainerOptionsBuilder, WaitContainerOptions,
    },
};
use futures_util::StreamExt;
use tokio::process::Command;

use crate::Result;

/// By what containers are made.
pub enum Client {
    /// The Docker Engine's API.
    Api(Docker),
    /// The `docker` command.
    Command,
}

/// A container to make.
pub(super) struct Container {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) label: (String, String),
    pub(super) command: Vec<String>,
    pub(super) environment: Vec<String>,
    pub(super) user: u32,
    pub(super) memory: u64,
    pub(super) cpus: u32,
    pub(super) binds: Vec<String>,
    /// None for one that needs no network.
    pub(super) port: Option<Port>,
}

/// A port that is published on loopback.
pub(super) struct Port {
    pub(super) network: String,
    pub(super) container: u16,
    pub(super) host: u16,
}

impl Client {
    /// By the Engine API of this machine.
    pub fn api() -> Result<Self> {
        Ok(Self::Api(Docker::connect_with_defaults()?))
    }

    /// Runs a container to its end and removes it.
    pub(super) async fn run(&self, container: &Container) -> Result<()> {
        match self {
            Self::Api(docker) => {
                container.start(docker).await?;
                let ended = docker.wait_container(&container.name, None::<WaitContainerOptions>).next().await;
                // An exit code that is not 0 is an error here.
                ended.transpose()?;
                self.remove(&container.name).await
            }
            Self::Command => succeed(container.docker(&["run", "--rm"])?).await,
        }
    }

    /// Starts a container that goes on.
    pub(super) async fn start(&self, container: &Container) -> Result<()> {
        match self {
            Self::Api(docker) => container.start(docker).await,
            Self::Command => succeed(container.docker(&["run", "--detach"])?).await,
        }
    }

    /// Has a container end by a signal.
    pub(super) async fn stop(&self, name: &str, signal: &str) -> Result<()> {
        match self {
            Self::Api(docker) => {
                let options = KillContainerOptionsBuilder::new().signal(signal).build();
                docker.kill_container(name, Some(options)).await?;
                let ended = docker.wait_container(name, None::<WaitContainerOptions>).next().await;
                ended.transpose()?;
                Ok(())
            }
            Self::Command => {
                succeed(command(&["kill", "--signal", signal, name])).await?;
                succeed(command(&["wait", name])).await
            }
        }
    }

    pub(super) async fn remove(&self, name: &str) -> Result<()> {
        match self {
            Self::Api(docker) => {
                let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
                Ok(docker.remove_container(name, Some(options)).await?)
            }
            Self::Command => succeed(command(&["rm", "--force", "--volumes", name])).await,
        }
    }
}

/// Makes a bridge network.
pub(super) async fn make_network(name: String, (label, value): (&str, &str)) -> Result<()> {
    let labels = Some(HashMap::from([(label.to_owned(), value.to_owned())]));
    let request = NetworkCreateRequest { name, labels, ..Default::default() };
    Docker::connect_with_defaults()?.create_network(request).await?;
    Ok(())
}

impl Container {
    async fn start(&self, docker: &Docker) -> Result<()> {
        let memory = i64::try_from(self.memory)?;
        let inside = self.port.as_ref().map(|port| format!("{}/tcp", port.container));
        let body = ContainerCreateBody {
            image: Some(self.image.clone()),
            entrypoint: Some(Vec::new()),
            cmd: Some(self.command.clone()),
            env: Some(self.environment.clone()),
            user: Some(format!("{0}:{0}", self.user)),
            exposed_ports: inside.clone().map(|inside| vec![inside]),
            labels: Some(HashMap::from([self.label.clone()])),
            host_config: Some(HostConfig {
                memory: Some(memory),
                memory_swap: Some(memory),
                nano_cpus: Some(i64::from(self.cpus) * 1_000_000_000),
                binds: Some(self.binds.clone()),
                network_mode: Some(self.network().to_owned()),
                port_bindings: inside.zip(self.port.as_ref()).map(|(inside, port)| {
                    let (host_ip, host_port) = (Some(Ipv4Addr::LOCALHOST.to_string()), Some(port.host.to_string()));
                    HashMap::from([(inside, Some(vec![PortBinding { host_ip, host_port }]))])
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let options = CreateContainerOptionsBuilder::new().name(&self.name).build();
        docker.create_container(Some(options), body).await?;
        Ok(docker.start_container(&self.name, None).await?)
    }

    fn docker(&self, how: &[&str]) -> Result<Command> {
        let (label, value) = &self.label;
        let mut docker = Command::new("docker");
        docker.args(how).args(["--name", &self.name, "--label", &format!("{label}={value}")]);
        docker.arg(format!("--user={0}:{0}", self.user)).arg(format!("--cpus={}", self.cpus));
        docker.arg(format!("--memory={0}", self.memory)).arg(format!("--memory-swap={0}", self.memory));
        docker.args(self.environment.iter().flat_map(|variable| ["--env", variable]));
        docker.args(self.binds.iter().flat_map(|bind| ["--volume", bind]));
        docker.arg(format!("--network={}", self.network()));
        if let Some(port) = &self.port {
            docker.arg(format!("--publish={}:{}:{}", Ipv4Addr::LOCALHOST, port.host, port.container));
        }
        let (program, arguments) = self.command.split_first().ok_or("a container runs something")?;
        docker.arg(format!("--entrypoint={program}")).arg(&self.image).args(arguments);
        Ok(docker)
    }

    fn network(&self) -> &str {
        self.port.as_ref().map_or("none", |port| &port.network)
    }
}

fn command(args: &[&str]) -> Command {
    let mut docker = Command::new("docker");
    docker.args(args);
    docker
}

async fn succeed(mut command: Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    if output.status.success() {
        return Ok(());
    }
    std::io::stderr().write_all(&output.stderr)?;
    Err(format!("a docker command ended with {}", output.status).into())
}
