//! Containers with minimal options.

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

/// The interface through which containers are created.
pub enum DockerClient {
    /// The Docker Engine's API.
    Api(Docker),
    /// The `docker` command.
    Command,
}

/// The parameters of a container.
pub(super) struct ContainerSpec {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) label: (String, String),
    pub(super) command: Vec<String>,
    pub(super) environment: Vec<String>,
    pub(super) uid: u32,
    pub(super) memory: u64,
    pub(super) cpus: u32,
    pub(super) binds: Vec<String>,
    /// None for a container without network.
    pub(super) port: Option<PublishedPort>,
}

/// A port that is published on loopback.
pub(super) struct PublishedPort {
    pub(super) network: String,
    pub(super) container: u16,
    pub(super) host: u16,
}

impl DockerClient {
    /// Connects to the Engine API of this machine.
    pub fn api() -> Result<Self> {
        Ok(Self::Api(Docker::connect_with_defaults()?))
    }

    /// Runs a container until it exits, and removes it.
    pub(super) async fn run(&self, container: &ContainerSpec) -> Result<()> {
        match self {
            Self::Api(docker) => {
                container.start(docker).await?;
                let exit = docker.wait_container(&container.name, None::<WaitContainerOptions>).next().await;
                // A nonzero exit code is an error here.
                exit.transpose()?;
                self.remove(&container.name).await
            }
            Self::Command => succeed(container.docker(&["run", "--rm"])?).await,
        }
    }

    /// Starts a container in the background.
    pub(super) async fn start(&self, container: &ContainerSpec) -> Result<()> {
        match self {
            Self::Api(docker) => container.start(docker).await,
            Self::Command => succeed(container.docker(&["run", "--detach"])?).await,
        }
    }

    /// Sends a signal to a container and waits until it exits.
    pub(super) async fn stop(&self, name: &str, signal: &str) -> Result<()> {
        match self {
            Self::Api(docker) => {
                let options = KillContainerOptionsBuilder::new().signal(signal).build();
                docker.kill_container(name, Some(options)).await?;
                let exit = docker.wait_container(name, None::<WaitContainerOptions>).next().await;
                exit.transpose()?;
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

/// Creates a bridge network.
pub(super) async fn create_network(name: String, (label, value): (&str, &str)) -> Result<()> {
    let labels = Some(HashMap::from([(label.to_owned(), value.to_owned())]));
    let request = NetworkCreateRequest { name, labels, ..Default::default() };
    Docker::connect_with_defaults()?.create_network(request).await?;
    Ok(())
}

impl ContainerSpec {
    async fn start(&self, docker: &Docker) -> Result<()> {
        let memory = i64::try_from(self.memory)?;
        let container_port = self.port.as_ref().map(|port| format!("{}/tcp", port.container));
        let body = ContainerCreateBody {
            image: Some(self.image.clone()),
            entrypoint: Some(Vec::new()),
            cmd: Some(self.command.clone()),
            env: Some(self.environment.clone()),
            user: Some(format!("{0}:{0}", self.uid)),
            exposed_ports: container_port.clone().map(|port| vec![port]),
            labels: Some(HashMap::from([self.label.clone()])),
            host_config: Some(HostConfig {
                memory: Some(memory),
                memory_swap: Some(memory),
                nano_cpus: Some(i64::from(self.cpus) * 1_000_000_000),
                binds: Some(self.binds.clone()),
                network_mode: Some(self.network().to_owned()),
                port_bindings: container_port.zip(self.port.as_ref()).map(|(container_port, port)| {
                    let (host_ip, host_port) = (Some(Ipv4Addr::LOCALHOST.to_string()), Some(port.host.to_string()));
                    HashMap::from([(container_port, Some(vec![PortBinding { host_ip, host_port }]))])
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let options = CreateContainerOptionsBuilder::new().name(&self.name).build();
        docker.create_container(Some(options), body).await?;
        Ok(docker.start_container(&self.name, None).await?)
    }

    fn docker(&self, subcommand: &[&str]) -> Result<Command> {
        let (label, value) = &self.label;
        let mut docker = Command::new("docker");
        docker.args(subcommand).args(["--name", &self.name, "--label", &format!("{label}={value}")]);
        docker.arg(format!("--user={0}:{0}", self.uid)).arg(format!("--cpus={}", self.cpus));
        docker.arg(format!("--memory={0}", self.memory)).arg(format!("--memory-swap={0}", self.memory));
        docker.args(self.environment.iter().flat_map(|variable| ["--env", variable]));
        docker.args(self.binds.iter().flat_map(|bind| ["--volume", bind]));
        docker.arg(format!("--network={}", self.network()));
        if let Some(port) = &self.port {
            docker.arg(format!("--publish={}:{}:{}", Ipv4Addr::LOCALHOST, port.host, port.container));
        }
        let (program, arguments) = self.command.split_first().ok_or("the command of a container is empty")?;
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
    Err(format!("a docker command failed with {}", output.status).into())
}
