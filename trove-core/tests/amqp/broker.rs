//! A RabbitMQ broker in a container, shared by tests that run at the same time.

use std::{
    fs,
    net::TcpStream,
    path::Path,
    process::Command,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use reqwest::Client;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use trove_core::{
    conformance::transport::TransportTestbed,
    error::Result,
    id::InstanceId,
    rpc::{self, Amqp, Broker, BrokerEndpoint, BrokerLogin, MAX_FRAME_BYTES, Management, MessageBroker, Transport},
};
use uuid::Uuid;

use crate::certificates::{Authority, Certificate};

/// Bounds how long the broker may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(180);
/// The broker's message size limit: twice the longest frame, so that frames in between reach the
/// receiver.
pub const MAX_MESSAGE_BYTES: usize = 2 * MAX_FRAME_BYTES;
/// The port of the management API.
pub const MANAGEMENT_PORT: u16 = 15672;
/// The ports with TLS, for the host name `localhost`.
pub const TLS_PORT: u16 = 5671;
pub const MANAGEMENT_TLS_PORT: u16 = 15671;

/// A broker in a container, which is removed when dropped.
pub struct RabbitMqContainer {
    container: String,
    password: String,
    broker: Broker,
    management: Management,
    /// The certificate of the authority that certified the broker.
    authority: String,
    _configuration: TempDir,
}

static SHARED: Mutex<Weak<RabbitMqContainer>> = Mutex::new(Weak::new());

impl RabbitMqContainer {
    /// Returns a broker that concurrent tests share. They must not break connections of others.
    pub async fn shared() -> Arc<Self> {
        let broker = {
            let mut slot = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
            slot.upgrade().unwrap_or_else(|| {
                let fresh = Arc::new(Self::start());
                *slot = Arc::downgrade(&fresh);
                fresh
            })
        };
        broker.wait_until_ready().await;
        broker
    }

    /// Returns a broker for one test.
    pub async fn own() -> Self {
        let broker = Self::start();
        broker.wait_until_ready().await;
        broker
    }

    fn start() -> Self {
        let (configuration, password) = (tempfile::tempdir().unwrap(), Uuid::new_v4().to_string());
        let write = |name: &str, text: String| {
            fs::write(configuration.path().join(name), text).unwrap();
            set_mode(&configuration.path().join(name), 0o644);
        };
        set_mode(configuration.path(), 0o755);
        write("enabled_plugins", "[rabbitmq_management].\n".to_owned());
        write(
            "rabbitmq.conf",
            format!(
                "default_user = control\ndefault_pass = {password}\nloopback_users = none\n\
                 max_message_size = {MAX_MESSAGE_BYTES}\nlog.console = true\nlog.console.level = warning\n\
                 listeners.ssl.default = {TLS_PORT}\nssl_options.certfile = /etc/broker/certificate.pem\n\
                 ssl_options.keyfile = /etc/broker/key.pem\nmanagement.tcp.port = {MANAGEMENT_PORT}\n\
                 management.ssl.port = {MANAGEMENT_TLS_PORT}\n\
                 management.ssl.certfile = /etc/broker/certificate.pem\n\
                 management.ssl.keyfile = /etc/broker/key.pem\n"
            ),
        );
        let authority = Authority::new();
        let Certificate { pem, key } = authority.issue("localhost");
        write("certificate.pem", pem);
        write("key.pem", key);
        let container = format!("trove-test-rabbitmq-{}", Uuid::new_v4());
        let image = std::env::var("TROVE_IMAGE_RABBITMQ_4_0").expect("TROVE_IMAGE_RABBITMQ_4_0 names an image");
        let mount = format!("{}:/etc/broker:ro", configuration.path().display());
        // A test run recognizes its containers by this label.
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
            // Idle schedulers do not spin, which would slow down other tests.
            "--env",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+sbwt none +sbwtdcpu none +sbwtdio none",
            &image,
            "rabbitmq-server",
        ]);
        let host = address(&container);
        let control = BrokerLogin::new("control", password.as_str());
        let management = Management::new(&format!("http://{host}:{MANAGEMENT_PORT}"), "/", control).unwrap();
        let (broker, authority) = (Broker::at(host), authority.pem);
        Self { container, password, broker, management, authority, _configuration: configuration }
    }

    /// Waits until the ports are open.
    async fn wait_until_ready(&self) {
        let (since, host) = (Instant::now(), self.host());
        let open = |port: u16| TcpStream::connect((host.as_str(), port)).is_ok();
        while ![self.broker.port, TLS_PORT, MANAGEMENT_PORT, MANAGEMENT_TLS_PORT].into_iter().all(open) {
            assert!(
                since.elapsed() < START_TIMEOUT,
                "the broker did not start: {}",
                docker(&["logs", &self.container])
            );
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Returns the current address.
    pub fn host(&self) -> String {
        address(&self.container)
    }

    /// Returns the certificate of the authority that certified the broker.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Returns the login of the control plane.
    pub fn control_login(&self) -> BrokerLogin {
        BrokerLogin::new("control", self.password.as_str())
    }

    /// Returns the transport of the control plane.
    pub fn control(&self) -> Amqp {
        Amqp::new(self.broker.clone(), self.control_login())
    }

    /// Returns the message broker of a service, which keeps the container.
    pub fn shared_handle(self: Arc<Self>) -> SharedBroker {
        SharedBroker { broker: self.direct(), _container: self }
    }

    /// Returns the message broker of a service without keeping the container.
    pub fn direct(&self) -> rpc::RabbitMq {
        rpc::RabbitMq::new(self.broker.clone(), self.control_login(), self.management.clone())
    }

    /// Returns the message broker of a service through other ports of this host.
    pub fn through_ports(&self, port: u16, management: u16) -> rpc::RabbitMq {
        let broker = Broker { port, ..Broker::at("127.0.0.1") };
        let management = Management::new(&format!("http://127.0.0.1:{management}"), "/", self.control_login());
        rpc::RabbitMq::new(broker, self.control_login(), management.unwrap())
    }

    /// Restarts the broker with this signal, keeping its data. Its address may change.
    pub async fn restart(self: &Arc<Self>, signal: &'static str) {
        let broker = self.clone();
        let restart = move || docker(&["restart", "--signal", signal, &broker.container]);
        tokio::task::spawn_blocking(restart).await.unwrap();
        self.wait_until_ready().await;
    }

    /// Resets the broker to a state with only the control plane's login.
    pub async fn reset(self: &Arc<Self>) {
        let broker = self.clone();
        let reset = move || {
            for step in ["stop_app", "reset", "start_app"] {
                docker(&["exec", &broker.container, "rabbitmqctl", "--quiet", step]);
            }
        };
        tokio::task::spawn_blocking(reset).await.unwrap();
        self.wait_until_ready().await;
    }

    /// Returns a transport with this login.
    pub fn with_login(&self, login: BrokerLogin) -> Amqp {
        Amqp::new(self.broker.clone(), login)
    }

    /// Returns the transport of a new guest login.
    pub async fn guest(&self, instance: InstanceId) -> Amqp {
        let login = BrokerLogin::for_guest(instance, 1, Uuid::new_v4().to_string());
        self.management.ensure_guest(instance, &login).await.unwrap();
        Amqp::new(self.broker.clone(), login)
    }

    /// Returns the kinds of broker resources with this instance id in their names.
    pub async fn resources_of(&self, id: &str) -> Vec<&'static str> {
        let mut found = Vec::new();
        for kind in ["users", "queues", "exchanges"] {
            let url = format!("http://{}:{MANAGEMENT_PORT}/api/{kind}?columns=name", self.host());
            let request = Client::new().get(url).basic_auth("control", Some(&self.password));
            let names = request.send().await.unwrap().error_for_status().unwrap().text().await.unwrap();
            found.extend(names.contains(id).then_some(kind));
        }
        found
    }

    /// Closes all connections.
    pub fn close_connections(&self) {
        docker(&["exec", &self.container, "rabbitmqctl", "close_all_connections", "closed by a test"]);
    }
}

impl Drop for RabbitMqContainer {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "--force", "--volumes", &self.container]).output();
    }
}

/// The message broker of a service, which keeps the container.
pub struct SharedBroker {
    broker: rpc::RabbitMq,
    _container: Arc<RabbitMqContainer>,
}

#[async_trait]
impl MessageBroker for SharedBroker {
    fn control(&self) -> Arc<dyn Transport> {
        self.broker.control()
    }

    async fn authorize(&self, instance: InstanceId, login: &BrokerLogin) -> Result<BrokerEndpoint> {
        self.broker.authorize(instance, login).await
    }

    async fn revoke(&self, user: &str) -> Result<()> {
        self.broker.revoke(user).await
    }
}

/// A broker for the transport suite.
pub struct BrokerTestbed(pub Arc<RabbitMqContainer>);

#[async_trait]
impl TransportTestbed for BrokerTestbed {
    fn control(&self) -> Arc<dyn Transport> {
        Arc::new(self.0.control())
    }

    async fn guest(&self, instance: InstanceId) -> Result<Arc<dyn Transport>> {
        Ok(Arc::new(self.0.guest(instance).await))
    }

    async fn interrupt(&self) -> Result<()> {
        self.0.close_connections();
        Ok(())
    }
}

fn address(container: &str) -> String {
    docker(&["inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container])
}

fn docker(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).output().unwrap();
    assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
