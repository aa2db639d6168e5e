//! The address of a broker, and the connections to it.

use std::{
    cell::RefCell,
    io,
    sync::{Arc, Weak},
    time::Duration,
};

use async_rs::{Runtime, Tokio, util::RuntimeParts};
use lapin::{
    Channel, Connection, ConnectionProperties, ErrorKind,
    protocol::{AMQPErrorKind, AMQPSoftError},
    tcp::AsyncTcpStream,
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo},
};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use tracing::dispatcher::{self, DefaultGuard, Dispatch};

use super::{
    CaCertificates,
    stream::{self, StreamReactor},
};
use crate::{
    error::{Error, Result},
    rpc::BrokerLogin,
    secret::ExposeSecret,
};

/// The timeout of connecting and of a synchronous AMQP method.
pub(super) const METHOD_TIMEOUT: Duration = Duration::from_secs(10);
/// The minimum interval between attempts to connect.
const CONNECT_INTERVAL: Duration = Duration::from_millis(200);
/// The interval of heartbeats. A connection is closed after twice that without traffic.
const HEARTBEAT_SECONDS: u16 = 10;
/// The maximum size of an AMQP frame. The client allocates 64 times that for each connection.
const AMQP_FRAME_BYTES: u32 = 8192;
/// The maximum number of channels on a connection. The default limit of RabbitMQ is 2047.
const CHANNELS_PER_CONNECTION: usize = 1024;

/// The address of a RabbitMQ broker and a virtual host on it.
///
/// ```
/// use trove_core::rpc::Broker;
///
/// let broker = Broker { vhost: "trove".to_owned(), ..Broker::at("rabbit.example") };
/// assert_eq!(broker.port, 5672);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// The host name or IP address.
    pub host: String,
    /// The port; 5672 by default, and 5671 with TLS.
    pub port: u16,
    /// The virtual host; `/` by default.
    pub vhost: String,
    /// The trusted certificate authorities. `None`, the default, disables TLS.
    pub tls: Option<CaCertificates>,
}

impl Broker {
    /// Returns the address of the broker on a host, with the default port and virtual host.
    pub fn at(host: impl Into<String>) -> Self {
        Self { host: host.into(), port: 5672, vhost: "/".to_owned(), tls: None }
    }

    /// Enables TLS and sets the port to 5671. The broker must present a certificate of a trusted
    /// authority for its [`host`](Self::host).
    #[must_use]
    pub fn with_tls(self, trusted: CaCertificates) -> Self {
        Self { port: 5671, tls: Some(trusted), ..self }
    }

    /// Warns if the connection is not encrypted.
    pub(crate) fn warn_without_tls(&self) {
        if self.tls.is_none() {
            tracing::warn!(
                host = self.host,
                "the connection to the message broker is not encrypted: an eavesdropper can read the login"
            );
        }
    }
}

/// A pool of connections to one broker, as many as its channels need.
pub(super) struct ConnectionPool {
    broker: Broker,
    /// The last login is used first. An earlier one is used if the broker rejects those after it.
    logins: Mutex<Vec<BrokerLogin>>,
    open: tokio::sync::Mutex<OpenConnections>,
}

#[derive(Default)]
struct OpenConnections {
    /// Weak, because a connection lives as long as its channels are used.
    connections: Vec<Weak<Connection>>,
    failed: Option<(Instant, Error)>,
}

/// A channel, with the connection that it keeps open.
pub(super) struct PooledChannel {
    pub(super) channel: Channel,
    _connection: Arc<Connection>,
}

impl ConnectionPool {
    pub(super) fn new(broker: Broker, logins: Vec<BrokerLogin>) -> Self {
        Self { broker, logins: Mutex::new(logins), open: tokio::sync::Mutex::default() }
    }

    pub(super) fn set_logins(&self, logins: Vec<BrokerLogin>) {
        *self.logins.lock() = logins;
    }

    /// Opens a channel.
    pub(super) async fn channel(&self) -> Result<PooledChannel> {
        let connection = self.connection().await?;
        let channel = timeout(METHOD_TIMEOUT, connection.create_channel()).await;
        let channel = channel.map_err(|_| timed_out())?.map_err(unreachable)?;
        Ok(PooledChannel { channel, _connection: connection })
    }

    /// Runs an operation about an address on a new channel.
    pub(super) async fn with_channel<F: Future<Output = lapin::Result<()>>>(
        &self,
        address: &super::Address,
        operation: impl FnOnce(Channel) -> F,
    ) -> Result<()> {
        let pooled = self.channel().await?;
        let done = timeout(METHOD_TIMEOUT, operation(pooled.channel.clone())).await.map_err(|_| timed_out())?;
        done.map_err(|error| super::translate(&error, address))
    }

    async fn connection(&self) -> Result<Arc<Connection>> {
        let mut open = self.open.lock().await;
        open.connections.retain(|connection| connection.strong_count() > 0);
        let candidates = open.connections.iter().filter_map(Weak::upgrade);
        // Each channel holds one reference to its connection, and this iterator holds one more.
        let found = candidates
            .into_iter()
            .find(|it| it.status().connected() && Arc::strong_count(it) <= CHANNELS_PER_CONNECTION);
        if let Some(connection) = found {
            return Ok(connection);
        }
        if let Some((at, error)) = &open.failed
            && at.elapsed() < CONNECT_INTERVAL
        {
            return Err(error.clone());
        }
        match self.connect().await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                open.connections.push(Arc::downgrade(&connection));
                open.failed = None;
                Ok(connection)
            }
            Err(error) => {
                open.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn connect(&self) -> Result<Connection> {
        let mut logins = self.logins.lock().clone();
        let mut last = Error::invalid("there is no login for the message broker");
        while let Some(login) = logins.pop() {
            let connecting = connect_untraced(self.uri(login), self.broker.clone());
            last = match timeout(METHOD_TIMEOUT, connecting).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) if is_login_rejected(&error) => unreachable(error),
                Ok(Err(error)) => return Err(unreachable(error)),
                Err(_) => return Err(timed_out()),
            };
        }
        Err(last)
    }

    fn uri(&self, login: BrokerLogin) -> AMQPUri {
        let BrokerLogin { user, password } = login;
        let userinfo = AMQPUserInfo { username: user, password: password.expose_secret().to_owned() };
        AMQPUri {
            scheme: AMQPScheme::AMQP,
            authority: AMQPAuthority { userinfo, host: self.broker.host.clone(), port: self.broker.port },
            vhost: self.broker.vhost.clone(),
            query: AMQPQueryString {
                frame_max: Some(AMQP_FRAME_BYTES),
                heartbeat: Some(HEARTBEAT_SECONDS),
                ..AMQPQueryString::default()
            },
        }
    }
}

thread_local! {
    static TRACING_DISABLED: RefCell<Option<DefaultGuard>> = const { RefCell::new(None) };
}

/// Connects with lapin's tracing disabled, because TRACE logs the password.
async fn connect_untraced(uri: AMQPUri, broker: Broker) -> lapin::Result<Connection> {
    let connect = async move |_, _| {
        // This runs on the thread of the connection, for which tracing stays disabled until it
        // ends.
        TRACING_DISABLED.set(Some(dispatcher::set_default(&Dispatch::none())));
        // The caller's timeout does not end this.
        let stream = timeout(METHOD_TIMEOUT, stream::connect(&broker)).await.map_err(io::Error::from)??;
        Ok(AsyncTcpStream::Plain(stream))
    };
    let runtime = Runtime::new(RuntimeParts::new(Tokio::current(), StreamReactor(Tokio::current())));
    Connection::connector(uri, runtime, connect, ConnectionProperties::default()).await
}

fn is_login_rejected(error: &lapin::Error) -> bool {
    let ErrorKind::ProtocolError(reply) = error.kind() else { return false };
    *reply.kind() == AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)
}

/// Translates a connection error. The messages of lapin never contain the password.
fn unreachable(error: lapin::Error) -> Error {
    Error::unavailable("could not reach the message broker").with_source(error)
}

pub(super) fn timed_out() -> Error {
    Error::unavailable("the message broker did not respond in time")
}
