//! A RabbitMQ broker in a container, with ports on loopback.

use std::{
    env, fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::time::sleep;
use trove_core::rpc::{Broker, BrokerLogin, Management};
use uuid::Uuid;

use crate::{Result, container_cpu_time, container_memory};

/// The deadline for the start of a broker.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const USER: &str = "control";
const PASSWORD: &str = "correct-horse";
const IMAGE_VARIABLE: &str = "TROVE_IMAGE_RABBITMQ_4_0";

/// A running broker; removed with its data when dropped.
#[derive(Debug)]
pub struct BrokerContainer {
    container: String,
    port: u16,
    management_port: u16,
    _configuration: TempDir,
}

impl BrokerContainer {
    /// Starts a broker in the network of the host, so that no port forwarding affects the
    /// measurements. Its files are below `parent`.
    pub fn start(parent: &str) -> Result<Self> {
        let image = env::var(IMAGE_VARIABLE).ok().filter(|image| !image.is_empty());
        let image = image.ok_or_else(|| format!("{IMAGE_VARIABLE} is not set; `cargo xtask bench` sets it"))?;
        let [port, management_port, distribution_port, epmd_port] = free_ports()?;
        let configuration = TempDir::with_prefix_in("bench-", parent)?;
        fs::set_permissions(configuration.path(), fs::Permissions::from_mode(0o755))?;
        write(configuration.path(), "enabled_plugins", "[rabbitmq_management].\n")?;
        let settings = format!(
            "default_user = {USER}\ndefault_pass = {PASSWORD}\nmax_message_size = 1048576\n\
             listeners.tcp.1 = 127.0.0.1:{port}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management_port}\n\
             log.console = true\nlog.console.level = warning\n"
        );
        write(configuration.path(), "rabbitmq.conf", &settings)?;
        let container = format!("bench-{}", Uuid::new_v4());
        let broker = Self { container, port, management_port, _configuration: configuration };
        let mount = format!("{}:/etc/broker:ro", broker._configuration.path().display());
        let environment = [
            "RABBITMQ_CONFIG_FILE=/etc/broker/rabbitmq.conf".to_owned(),
            "RABBITMQ_ENABLED_PLUGINS_FILE=/etc/broker/enabled_plugins".to_owned(),
            "RABBITMQ_NODENAME=rabbit@localhost".to_owned(),
            format!("RABBITMQ_DIST_PORT={distribution_port}"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}".to_owned(),
            "ERL_EPMD_ADDRESS=127.0.0.1".to_owned(),
            format!("ERL_EPMD_PORT={epmd_port}"),
        ];
        let mut docker = Command::new("docker");
        docker.args(["run", "--detach", "--rm", "--name", &broker.container, "--label", "io.trove.scope=bench"]);
        docker.args(["--network=host", "--entrypoint=", "--volume", &mount]);
        docker.args(environment.iter().flat_map(|variable| ["--env", variable]));
        let started = docker.args([&image, "rabbitmq-server"]).output()?;
        if !started.status.success() {
            return Err(format!("could not start the broker: {}", String::from_utf8_lossy(&started.stderr)).into());
        }
        Ok(broker)
    }

    /// Waits until both ports accept connections.
    pub async fn wait_until_ready(&self) -> Result<()> {
        let started = Instant::now();
        let accepts = |port: u16| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        while !accepts(self.port) || !accepts(self.management_port) {
            if started.elapsed() > START_TIMEOUT {
                return Err("timed out waiting for the broker".into());
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Returns the address of the broker and the login of its administrator.
    pub fn control_login(&self) -> (Broker, BrokerLogin) {
        let mut broker = Broker::at(Ipv4Addr::LOCALHOST.to_string());
        broker.port = self.port;
        (broker, BrokerLogin::new(USER, PASSWORD))
    }

    /// Returns the same as a URI.
    pub fn uri(&self) -> String {
        format!("amqp://{USER}:{PASSWORD}@{}:{}/%2f", Ipv4Addr::LOCALHOST, self.port)
    }

    /// Returns its management API.
    pub fn management(&self) -> Result<Management> {
        let url = format!("http://{}:{}", Ipv4Addr::LOCALHOST, self.management_port);
        Ok(Management::new(&url, "/", BrokerLogin::new(USER, PASSWORD))?)
    }

    /// Returns the CPU time of the broker in seconds.
    pub async fn cpu_time(&self) -> Result<f64> {
        container_cpu_time(&self.container).await
    }

    /// Returns the memory of the broker in bytes, without the inactive file cache.
    pub async fn memory(&self) -> Result<f64> {
        container_memory(&self.container).await
    }
}

impl Drop for BrokerContainer {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "--force", "--volumes", &self.container]).output();
    }
}

/// Returns distinct ports that are free on loopback.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut listeners = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

fn write(directory: &Path, name: &str, text: &str) -> Result<()> {
    let path = directory.join(name);
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    Ok(())
}
