//! A RabbitMQ broker in a container, shared by the tests that run at the same time.

use std::{
    fs,
    net::TcpStream,
    path::Path,
    process::Command,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use trove_core::{
    conformance::transport::Testbed,
    error::Result,
    id::InstanceId,
    rpc::{self, Amqp, Broker, BrokerEndpoint, BrokerLogin, MAX_FRAME_BYTES, Management, MessageBroker, Transport},
};
use uuid::Uuid;

/// How long the broker may take to start.
const START_LIMIT: Duration = Duration::from_secs(180);
/// The longest message that it takes: twice the longest frame, so that those in between are seen to be refused too.
pub const MAX_MESSAGE_BYTES: usize = 2 * MAX_FRAME_BYTES;
/// The port of its management.
pub const MANAGEMENT: u16 = 15672;

/// The broker; the last of its users takes it away.
pub struct RabbitMq {
    container: String,
    password: String,
    broker: Broker,
    management: Management,
    _configuration: TempDir,
}

static SHARED: Mutex<Weak<RabbitMq>> = Mutex::new(Weak::new());

impl RabbitMq {
    /// The one that other tests use too, so that no test breaks connections that are not its own.
    pub async fn shared() -> Arc<Self> {
        let broker = {
            let mut slot = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
            slot.upgrade().unwrap_or_else(|| {
                let fresh = Arc::new(Self::start());
                *slot = Arc::downgrade(&fresh);
                fresh
            })
        };
        broker.serves().await;
        broker
    }

    /// One that nobody else uses.
    pub async fn own() -> Self {
        let broker = Self::start();
        broker.serves().await;
        broker
    }

    fn start() -> Self {
        let (configuration, password) = (tempfile::tempdir().unwrap(), Uuid::new_v4().to_string());
        let write = |name: &str, text: String| {
            fs::write(configuration.path().join(name), text).unwrap();
            readable(&configuration.path().join(name), 0o644);
        };
        readable(configuration.path(), 0o755);
        write("enabled_plugins", "[rabbitmq_management].\n".to_owned());
        write(
            "rabbitmq.conf",
            format!(
                "default_user = control\ndefault_pass = {password}\nloopback_users = none\n\
                 max_message_size = {MAX_MESSAGE_BYTES}\nlog.console = true\nlog.console.level = warning\n"
            ),
        );
        let container = format!("trove-test-rabbitmq-{}", Uuid::new_v4());
        let image = std::env::var("TROVE_IMAGE_RABBITMQ_4_0").expect("TROVE_IMAGE_RABBITMQ_4_0 names an image");
        let mount = format!("{}:/etc/broker:ro", configuration.path().display());
        // By which a test run recognizes its containers.
        let label = format!("io.trove.directory={}", configuration.path().display());
        docker(&[
            "run",
            "--detach",
            "--name",
            &container,
            "--label",
            &label,
            "--entrypoint=",
            "--volume",
            &mount,
            "--env",
            "RABBITMQ_CONFIG_FILE=/etc/broker/rabbitmq.conf",
            "--env",
            "RABBITMQ_ENABLED_PLUGINS_FILE=/etc/broker/enabled_plugins",
            "--env",
            "RABBITMQ_NODENAME=rabbit@localhost",
            &image,
            "rabbitmq-server",
        ]);
        let host = address(&container);
        let control = BrokerLogin::new("control", password.as_str());
        let management = Management::new(&format!("http://{host}:{MANAGEMENT}"), "/", control).unwrap();
        Self { container, password, broker: Broker::at(host), management, _configuration: configuration }
    }

    /// Waits until it serves.
    async fn serves(&self) {
        let (since, host) = (Instant::now(), self.host());
        let open = |port: u16| TcpStream::connect((host.as_str(), port)).is_ok();
        while !open(self.broker.port) || !open(MANAGEMENT) {
            assert!(since.elapsed() < START_LIMIT, "no broker: {}", docker(&["logs", &self.container]));
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Its address now.
    pub fn host(&self) -> String {
        address(&self.container)
    }

    /// Who the control plane is to it.
    pub fn control_login(&self) -> BrokerLogin {
        BrokerLogin::new("control", self.password.as_str())
    }

    /// The broker as the control plane has it.
    pub fn control(&self) -> Amqp {
        Amqp::new(self.broker.clone(), self.control_login())
    }

    /// The broker as the bus of a service.
    pub fn bus(self: Arc<Self>) -> Shared {
        Shared { bus: self.direct(), _broker: self }
    }

    /// The same without keeping the broker.
    pub fn direct(&self) -> rpc::RabbitMq {
        rpc::RabbitMq::new(self.broker.clone(), self.control_login(), self.management.clone())
    }

    /// The same through other ports of this host.
    pub fn bus_through(&self, port: u16, management: u16) -> rpc::RabbitMq {
        let broker = Broker { port, ..Broker::at("127.0.0.1") };
        let management = Management::new(&format!("http://127.0.0.1:{management}"), "/", self.control_login());
        rpc::RabbitMq::new(broker, self.control_login(), management.unwrap())
    }

    /// Ends it as this signal does, and starts it again with what it has on its disk. Its address may be another then.
    pub async fn restart(self: &Arc<Self>, signal: &'static str) {
        let broker = self.clone();
        let restarted = move || docker(&["restart", "--signal", signal, &broker.container]);
        tokio::task::spawn_blocking(restarted).await.unwrap();
        self.serves().await;
    }

    /// Makes it lose all it had but the control plane's login.
    pub async fn forget(self: &Arc<Self>) {
        let broker = self.clone();
        let forgotten = move || {
            for step in ["stop_app", "reset", "start_app"] {
                docker(&["exec", &broker.container, "rabbitmqctl", "--quiet", step]);
            }
        };
        tokio::task::spawn_blocking(forgotten).await.unwrap();
        self.serves().await;
    }

    /// The broker as somebody with this login has it.
    pub fn log_in(&self, login: BrokerLogin) -> Amqp {
        Amqp::new(self.broker.clone(), login)
    }

    /// As a guest has it.
    pub async fn guest(&self, instance: InstanceId) -> Amqp {
        let login = BrokerLogin::for_guest(instance, 1, Uuid::new_v4().to_string());
        self.management.ensure_guest(instance, &login).await.unwrap();
        Amqp::new(self.broker.clone(), login)
    }

    /// What at the broker has an instance's id in its name.
    pub fn mentions(&self, id: &str) -> Vec<&'static str> {
        let names = |what: &str| docker(&["exec", &self.container, "rabbitmqctl", "--quiet", &format!("list_{what}")]);
        ["users", "queues", "exchanges"].into_iter().filter(|what| names(what).contains(id)).collect()
    }

    /// Breaks every connection.
    pub fn cut_connections(&self) {
        docker(&["exec", &self.container, "rabbitmqctl", "close_all_connections", "cut by a test"]);
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "--force", "--volumes", &self.container]).output();
    }
}

/// The bus of a service, which keeps the broker.
pub struct Shared {
    bus: rpc::RabbitMq,
    _broker: Arc<RabbitMq>,
}

#[async_trait]
impl MessageBroker for Shared {
    fn control(&self) -> Arc<dyn Transport> {
        self.bus.control()
    }

    async fn authorize(&self, instance: InstanceId, login: &BrokerLogin) -> Result<BrokerEndpoint> {
        self.bus.authorize(instance, login).await
    }

    async fn revoke(&self, user: &str) -> Result<()> {
        self.bus.revoke(user).await
    }
}

/// A broker of its own under the suite of transports.
pub struct Bed(pub Arc<RabbitMq>);

#[async_trait]
impl Testbed for Bed {
    fn control(&self) -> Arc<dyn Transport> {
        Arc::new(self.0.control())
    }

    async fn guest(&self, instance: InstanceId) -> Result<Arc<dyn Transport>> {
        Ok(Arc::new(self.0.guest(instance).await))
    }

    async fn interrupt(&self) -> Result<()> {
        self.0.cut_connections();
        Ok(())
    }
}

fn address(container: &str) -> String {
    docker(&["inspect", "--format", "{{.NetworkSettings.IPAddress}}", container])
}

fn docker(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).output().unwrap();
    assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn readable(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
