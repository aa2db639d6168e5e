//! Creates, inspects and controls containers.

use std::{
    collections::HashMap,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use bollard::{
    errors::Error as ClientError,
    models::{
        ContainerCreateBody, ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, HealthConfig,
        HostConfig, HostConfigLogConfig, Mount as MountModel, MountType, PortBinding, RestartPolicy,
        RestartPolicyNameEnum,
    },
    query_parameters::{
        CreateContainerOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
        StopContainerOptionsBuilder, WaitContainerOptionsBuilder,
    },
};
use futures_util::StreamExt;
use trove_core::error::{Error, Kind, Result};

use super::{DEADLINE, Docker, DockerRequest, LOOK_DEADLINE, error::lacks_program};

/// How much of a container's output is added to an error.
const LOG_TAIL_BYTES: usize = 2048;

const LOG_TAIL_LINES: u32 = 20;
const LOG_TAIL_READ: usize = 1 << 20;

/// How long reading the output of a container may take.
const LOG_DEADLINE: Duration = Duration::from_secs(5);

/// One CPU in the daemon's unit.
const NANO_CPUS: u64 = 1_000_000_000;

/// The mount options of `/tmp`. Its content counts as memory of the container.
const TEMPORARY: &str = "rw,noexec,nosuid,nodev,mode=1777,size=16m";

/// A container to create. Not included is what all of ours have in common: no capabilities, no new
/// privileges, a read-only root file system, no restarts by the daemon, and neither the entry point
/// nor the health check of the image.
#[derive(Clone, Debug)]
pub(crate) struct ContainerSpec {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) command: Vec<String>,
    pub(crate) environment: Vec<String>,
    pub(crate) user: String,
    pub(crate) memory: u64,
    pub(crate) shared_memory: u64,
    pub(crate) cpus: u32,
    pub(crate) processes: u32,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) network: Network,
    pub(crate) stop_signal: String,
    pub(crate) labels: HashMap<String, String>,
}

/// A host path that is mounted into a container.
#[derive(Clone, Debug)]
pub(crate) struct Mount {
    pub(crate) source: PathBuf,
    pub(crate) target: String,
    pub(crate) read_only: bool,
}

/// How a container is connected.
#[derive(Clone, Debug)]
pub(crate) enum Network {
    /// Without a network.
    None,
    /// To the network of this name, with one port published on this machine.
    Published { network: String, port: PublishedPort },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct PublishedPort {
    pub(crate) container: u16,
    pub(crate) address: IpAddr,
    pub(crate) host: u16,
}

/// An existing container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContainerInfo {
    pub(crate) id: String,
    pub(crate) labels: HashMap<String, String>,
    pub(crate) state: RunState,
    /// The image, as requested.
    pub(crate) image: String,
    /// The limits, as requested: memory in bytes and whole CPUs.
    pub(crate) limits: (u64, u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunState {
    /// Created and never started.
    Created,
    /// Running; its first process has this id on the host.
    Running {
        pid: u32,
    },
    Paused,
    Exited {
        code: i64,
        out_of_memory: bool,
    },
}

/// The result of starting a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartOutcome {
    Started,
    /// The image does not contain the program.
    NoProgram,
}

impl Docker {
    /// Creates a container and returns its id; [`Conflict`](Kind::Conflict) if the name is taken.
    /// The guard is held until the daemon has answered, even if this future is dropped.
    pub(crate) async fn create(&self, spec: &ContainerSpec, guard: impl Send + 'static) -> Result<String> {
        let action = DockerRequest::Create { name: spec.name.clone(), image: spec.image.clone() };
        let options = CreateContainerOptionsBuilder::new().name(&spec.name).build();
        let body = spec.body()?;
        let create = |client: bollard::Docker| async move { client.create_container(Some(options), body).await };
        Ok(self.write(action, DEADLINE, guard, create).await?.id)
    }

    /// Starts a container, or does nothing if it is running. The guard is held as in
    /// [`create`](Self::create).
    pub(crate) async fn start(&self, container: &str, guard: impl Send + 'static) -> Result<StartOutcome> {
        let name = container.to_owned();
        let start = |client: bollard::Docker| async move {
            match client.start_container(&name, None).await {
                Ok(()) => Ok(StartOutcome::Started),
                Err(error) if lacks_program(&error) => Ok(StartOutcome::NoProgram),
                Err(error) => Err(error),
            }
        };
        self.write(DockerRequest::Container(container.to_owned()), DEADLINE, guard, start).await
    }

    /// Stops a container with its stop signal and kills it after `grace`. An absent or stopped one
    /// is `Ok`.
    pub(crate) async fn stop(&self, container: &str, grace: Duration) -> Result<()> {
        let name = container.to_owned();
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::new().t(seconds).build();
        let stop = |client: bollard::Docker| async move { client.stop_container(&name, Some(options)).await };
        absent_is_ok(self.write(DockerRequest::Container(container.to_owned()), grace + DEADLINE, (), stop).await)
    }

    /// Resumes a paused container.
    pub(crate) async fn unpause(&self, container: &str) -> Result<()> {
        let name = container.to_owned();
        let unpause = |client: bollard::Docker| async move { client.unpause_container(&name).await };
        self.write(DockerRequest::Container(container.to_owned()), DEADLINE, (), unpause).await
    }

    /// Kills and removes a container with its anonymous volumes. An absent one is `Ok`.
    pub(crate) async fn remove(&self, container: &str) -> Result<()> {
        let name = container.to_owned();
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let remove = |client: bollard::Docker| async move { client.remove_container(&name, Some(options)).await };
        match absent_is_ok(self.write(DockerRequest::Container(container.to_owned()), DEADLINE, (), remove).await) {
            // It is already being removed.
            Err(error) if error.kind() == Kind::Conflict => Ok(()),
            removed => removed,
        }
    }

    /// Returns the container, if there is one. Answers within seconds.
    pub(crate) async fn look(&self, container: &str) -> Result<Option<ContainerInfo>> {
        let look = |client: bollard::Docker| async move { client.inspect_container(container, None).await };
        match self.read(DockerRequest::Container(container.to_owned()), LOOK_DEADLINE, look).await {
            Ok(found) => Ok(Some(ContainerInfo::from(found))),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the ids of all containers with these labels, running or not.
    pub(crate) async fn labelled(&self, labels: &[(&str, &str)]) -> Result<Vec<String>> {
        Ok(self.named(labels).await?.into_iter().map(|(id, _)| id).collect())
    }

    /// Returns their ids and names.
    pub(crate) async fn named(&self, labels: &[(&str, &str)]) -> Result<Vec<(String, String)>> {
        let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let filters = HashMap::from([("label".to_owned(), labels)]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let list = |client: bollard::Docker| async move { client.list_containers(Some(options)).await };
        let found = self.read(DockerRequest::Ask, DEADLINE, list).await?;
        let name = |names: Option<Vec<String>>| names.and_then(|names| names.into_iter().next()).unwrap_or_default();
        let both = found.into_iter().filter_map(|it| Some((it.id?, name(it.names).trim_start_matches('/').to_owned())));
        Ok(both.collect())
    }

    /// Waits without a limit until the container has exited, and returns its exit code.
    pub(crate) async fn ended(&self, container: &str) -> Result<i64> {
        let wait = |client: bollard::Docker| async move {
            let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
            match client.wait_container(container, Some(options)).next().await {
                Some(Ok(ended)) => Ok(Some(ended.status_code)),
                Some(Err(ClientError::DockerContainerWaitError { code, .. })) => Ok(Some(code)),
                Some(Err(error)) => Err(error),
                None => Ok(None),
            }
        };
        let ended = self.read(DockerRequest::Container(container.to_owned()), Duration::MAX, wait).await?;
        ended.ok_or_else(|| Error::unavailable("the Docker daemon closed a wait early"))
    }

    /// Returns the end of the container's output for an operator, or an empty string if it cannot
    /// be read.
    pub(crate) async fn log_tail(&self, container: &str) -> String {
        let text = self.written(container, Some(LOG_TAIL_LINES), LOG_TAIL_READ).await.unwrap_or_default();
        printable_tail(&text)
    }

    /// Returns the container's output, up to this number of bytes.
    pub(crate) async fn output(&self, container: &str, limit: usize) -> Result<String> {
        self.written(container, None, limit).await
    }

    async fn written(&self, container: &str, last: Option<u32>, limit: usize) -> Result<String> {
        let read = |client: bollard::Docker| async move {
            let last = last.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
            let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(&last).build();
            let mut output = client.logs(container, Some(options));
            let mut text = String::new();
            while let Some(part) = output.next().await {
                text.push_str(&String::from_utf8_lossy(&part?.into_bytes()));
                if text.len() > limit {
                    text.truncate(text.floor_char_boundary(limit));
                    break;
                }
            }
            Ok(text)
        };
        self.read(DockerRequest::Container(container.to_owned()), LOG_DEADLINE, read).await
    }
}

impl From<ContainerInspectResponse> for ContainerInfo {
    fn from(found: ContainerInspectResponse) -> Self {
        let config = found.config.unwrap_or_default();
        let limits = found.host_config.unwrap_or_default();
        let number = |number: Option<i64>| number.and_then(|it| u64::try_from(it).ok()).unwrap_or(0);
        let cpus = u32::try_from(number(limits.nano_cpus) / NANO_CPUS).unwrap_or(u32::MAX);
        Self {
            id: found.id.unwrap_or_default(),
            labels: config.labels.unwrap_or_default(),
            state: found.state.map_or(RunState::Created, RunState::from),
            image: config.image.unwrap_or_default(),
            limits: (number(limits.memory), cpus),
        }
    }
}

impl ContainerSpec {
    /// Returns the limits in the form of [`ContainerInfo::limits`].
    pub(crate) fn limits(&self) -> (u64, u32) {
        (self.memory, self.cpus)
    }

    fn body(&self) -> Result<ContainerCreateBody> {
        let mounts = self.mounts.iter().map(Mount::model).collect::<Result<Vec<_>>>()?;
        let (network_mode, exposed_ports, port_bindings) = match &self.network {
            Network::None => ("none".to_owned(), None, None),
            Network::Published { network, port } => {
                let inside = format!("{}/tcp", port.container);
                let binding =
                    PortBinding { host_ip: Some(port.address.to_string()), host_port: Some(port.host.to_string()) };
                let bindings = HashMap::from([(inside.clone(), Some(vec![binding]))]);
                (network.clone(), Some(vec![inside]), Some(bindings))
            }
        };
        let log_options = [("max-size", "10m"), ("max-file", "3")];
        let host_config = HostConfig {
            memory: Some(clamp(self.memory)),
            memory_swap: Some(clamp(self.memory)),
            shm_size: Some(clamp(self.shared_memory)),
            nano_cpus: Some(clamp(u64::from(self.cpus) * NANO_CPUS)),
            pids_limit: Some(i64::from(self.processes)),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges:true".to_owned()]),
            readonly_rootfs: Some(true),
            tmpfs: Some(HashMap::from([("/tmp".to_owned(), TEMPORARY.to_owned())])),
            mounts: Some(mounts),
            log_config: Some(HostConfigLogConfig {
                typ: Some("local".to_owned()),
                config: Some(log_options.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            }),
            restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
            network_mode: Some(network_mode),
            // The daemon would resolve names for the server in the network of the host.
            dns: Some(vec!["127.0.0.1".to_owned()]),
            port_bindings,
            ..Default::default()
        };
        Ok(ContainerCreateBody {
            image: Some(self.image.clone()),
            entrypoint: Some(Vec::new()),
            cmd: Some(self.command.clone()),
            env: Some(self.environment.clone()),
            user: Some(self.user.clone()),
            working_dir: Some("/".to_owned()),
            exposed_ports,
            healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..Default::default() }),
            stop_signal: Some(self.stop_signal.clone()),
            labels: Some(self.labels.clone()),
            host_config: Some(host_config),
            ..Default::default()
        })
    }
}

impl Mount {
    pub(crate) fn new(source: &Path, target: impl Into<String>) -> Self {
        Self { source: source.to_owned(), target: target.into(), read_only: false }
    }

    pub(crate) fn read_only(self) -> Self {
        Self { read_only: true, ..self }
    }

    fn model(&self) -> Result<MountModel> {
        let source = self.source.to_str().ok_or_else(|| {
            Error::invalid("the path of an instance's directory is not UTF-8").with("directory", self.source.display())
        })?;
        Ok(MountModel {
            typ: Some(MountType::BIND),
            source: Some(source.to_owned()),
            target: Some(self.target.clone()),
            read_only: Some(self.read_only),
            ..Default::default()
        })
    }
}

impl From<ContainerState> for RunState {
    fn from(state: ContainerState) -> Self {
        match state.status {
            Some(ContainerStateStatusEnum::CREATED) => Self::Created,
            Some(ContainerStateStatusEnum::PAUSED) => Self::Paused,
            Some(ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::RESTARTING) => {
                Self::Running { pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0) }
            }
            Some(
                ContainerStateStatusEnum::EXITED
                | ContainerStateStatusEnum::DEAD
                | ContainerStateStatusEnum::REMOVING
                | ContainerStateStatusEnum::STOPPING
                | ContainerStateStatusEnum::EMPTY,
            )
            | None => {
                Self::Exited { code: state.exit_code.unwrap_or(-1), out_of_memory: state.oom_killed.unwrap_or(false) }
            }
        }
    }
}

fn absent_is_ok(done: Result<()>) -> Result<()> {
    match done {
        Err(error) if error.kind() == Kind::NotFound => Ok(()),
        done => done,
    }
}

/// Returns the end of a text without control characters that could affect a terminal.
pub(crate) fn printable_tail(text: &str) -> String {
    let mut from = text.len().saturating_sub(LOG_TAIL_BYTES);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let printable = |letter: &char| matches!(letter, '\n' | '\t') || !letter.is_control();
    text[from..].chars().filter(printable).collect::<String>().trim().to_owned()
}

fn clamp(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_tails_are_truncated_and_printable() {
        assert_eq!(printable_tail("\n a\tb\r\nc\u{1b}[2J\u{9b}31m\u{7}\u{0}d\u{7f} \n"), "a\tb\nc[2J31md");
        assert_eq!(printable_tail(""), "");
        let long = format!("x{}", "é".repeat(LOG_TAIL_BYTES));
        assert_eq!(printable_tail(&long), "é".repeat(LOG_TAIL_BYTES / 2));
    }
}
