//! A RabbitMQ broker in a container of its own, on ports of loopback.

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
use trove_benches::{Result, container_memory, container_processor_time};
use trove_core::rpc::{self, BrokerLogin, Management};
use uuid::Uuid;

/// How long it may take to start.
const START_LIMIT: Duration = Duration::from_secs(60);
const USER: &str = "control";
const PASSWORD: &str = "correct-horse";
const IMAGE: &str = "TROVE_IMAGE_RABBITMQ_4_0";

/// Dropped, it goes with all it holds.
pub(super) struct Broker {
    container: String,
    port: u16,
    management: u16,
    _configuration: TempDir,
}

impl Broker {
    /// Starts one in the network of this machine, so that nothing is between it and who uses it.
    pub(super) fn start() -> Result<Self> {
        let image = env::var(IMAGE).ok().filter(|image| !image.is_empty());
        let image = image.ok_or_else(|| format!("{IMAGE} names no image; `cargo xtask bench` sets it"))?;
        let [port, management, distribution, names] = free_ports()?;
        let configuration = TempDir::with_prefix_in("bench-", env!("CARGO_TARGET_TMPDIR"))?;
        fs::set_permissions(configuration.path(), fs::Permissions::from_mode(0o755))?;
        write(configuration.path(), "enabled_plugins", "[rabbitmq_management].\n")?;
        let settings = format!(
            "default_user = {USER}\ndefault_pass = {PASSWORD}\nmax_message_size = 1048576\n\
             listeners.tcp.1 = 127.0.0.1:{port}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n\
             log.console = true\nlog.console.level = warning\n"
        );
        write(configuration.path(), "rabbitmq.conf", &settings)?;
        let broker =
            Self { container: format!("bench-{}", Uuid::new_v4()), port, management, _configuration: configuration };
        let mount = format!("{}:/etc/broker:ro", broker._configuration.path().display());
        let environment = [
            "RABBITMQ_CONFIG_FILE=/etc/broker/rabbitmq.conf".to_owned(),
            "RABBITMQ_ENABLED_PLUGINS_FILE=/etc/broker/enabled_plugins".to_owned(),
            "RABBITMQ_NODENAME=rabbit@localhost".to_owned(),
            format!("RABBITMQ_DIST_PORT={distribution}"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}".to_owned(),
            "ERL_EPMD_ADDRESS=127.0.0.1".to_owned(),
            format!("ERL_EPMD_PORT={names}"),
        ];
        let mut docker = Command::new("docker");
        docker.args(["run", "--detach", "--rm", "--name", &broker.container, "--label", "io.trove.scope=bench"]);
        docker.args(["--network=host", "--entrypoint=", "--volume", &mount]);
        docker.args(environment.iter().flat_map(|variable| ["--env", variable]));
        let started = docker.args([&image, "rabbitmq-server"]).output()?;
        if !started.status.success() {
            return Err(format!("no broker: {}", String::from_utf8_lossy(&started.stderr)).into());
        }
        Ok(broker)
    }

    /// Waits until it serves.
    pub(super) async fn serves(&self) -> Result<()> {
        let since = Instant::now();
        let open = |port: u16| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        while !open(self.port) || !open(self.management) {
            if since.elapsed() > START_LIMIT {
                return Err("the broker does not serve".into());
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Where it is, and who may do everything there.
    pub(super) fn control(&self) -> (rpc::Broker, BrokerLogin) {
        let mut broker = rpc::Broker::at(Ipv4Addr::LOCALHOST.to_string());
        broker.port = self.port;
        (broker, BrokerLogin::new(USER, PASSWORD))
    }

    /// The same as clients that know nothing of the library are told it.
    pub(super) fn uri(&self) -> String {
        format!("amqp://{USER}:{PASSWORD}@{}:{}/%2f", Ipv4Addr::LOCALHOST, self.port)
    }

    pub(super) fn management(&self) -> Result<Management> {
        let url = format!("http://{}:{}", Ipv4Addr::LOCALHOST, self.management);
        Ok(Management::new(&url, "/", BrokerLogin::new(USER, PASSWORD))?)
    }

    /// The seconds that it has kept a processor busy.
    pub(super) async fn processor_time(&self) -> Result<f64> {
        container_processor_time(&self.container).await
    }

    /// The bytes that it cannot do without.
    pub(super) async fn memory(&self) -> Result<f64> {
        container_memory(&self.container).await
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "--force", "--volumes", &self.container]).output();
    }
}

/// Different ones, that nobody listens on.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

fn write(directory: &Path, name: &str, text: &str) -> Result<()> {
    let path = directory.join(name);
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    Ok(())
}
