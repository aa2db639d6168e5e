//! The broker, and the connections to it.

use std::{
    cell::RefCell,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use lapin::{
    Channel, Connection, ConnectionProperties, ErrorKind,
    protocol::{AMQPErrorKind, AMQPSoftError},
    runtime::default_runtime,
    tcp::{AMQPUriTcpExt, OwnedTLSConfig},
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo},
};
use tokio::time::{Instant, timeout};
use tracing::dispatcher::{self, DefaultGuard, Dispatch};

use crate::{
    error::{Error, Result},
    secret::{ExposeSecret, SecretString},
};

/// How long it may take to connect, or to get an answer.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long after a failure to connect the next attempt is made.
const CONNECT_PAUSE: Duration = Duration::from_millis(200);
/// How often either side shows that it is there. Twice that without anything, and the connection is given up.
const HEARTBEAT_SECONDS: u16 = 10;
/// The longest part of a frame. The client sets aside 64 times that for each connection.
const PART_BYTES: u32 = 8192;
/// How many channels a connection has at most. A broker allows 2047 unless told otherwise.
const CHANNELS: usize = 1024;

/// Where a RabbitMQ broker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its name or address.
    pub host: String,
    /// Its port; 5672 by default.
    pub port: u16,
    /// The virtual host on it; `/` by default.
    pub vhost: String,
}

impl Broker {
    /// The broker at this host, with the default port and virtual host.
    pub fn at(host: impl Into<String>) -> Self {
        Self { host: host.into(), port: 5672, vhost: "/".to_owned() }
    }
}

/// Who somebody is to a broker.
#[derive(Clone)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// And password.
    pub password: SecretString,
}

impl Login {
    /// A user and its password.
    pub fn new(user: impl Into<String>, password: impl Into<SecretString>) -> Self {
        Self { user: user.into(), password: password.into() }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// The connections to one broker: as many as it takes for all channels.
pub(super) struct Connections {
    broker: Broker,
    /// The newest at the end. Of an earlier one it is made use where the broker refuses those after it.
    logins: Mutex<Vec<Login>>,
    /// Each lives as long as a channel on it is used.
    open: tokio::sync::Mutex<Open>,
}

#[derive(Default)]
struct Open {
    connections: Vec<Weak<Connection>>,
    failed: Option<(Instant, Error)>,
}

/// A channel, and the connection that it needs.
pub(super) struct Wire {
    pub(super) channel: Channel,
    _connection: Arc<Connection>,
}

impl Connections {
    pub(super) fn new(broker: Broker, login: Login) -> Self {
        Self { broker, logins: Mutex::new(vec![login]), open: tokio::sync::Mutex::default() }
    }

    pub(super) fn log_in_as(&self, logins: Vec<Login>) {
        *self.logins.lock().unwrap_or_else(PoisonError::into_inner) = logins;
    }

    /// A new channel.
    pub(super) async fn wire(&self) -> Result<Wire> {
        let connection = self.connection().await?;
        let channel = timeout(ANSWER_LIMIT, connection.create_channel()).await;
        let channel = channel.map_err(|_| late())?.map_err(unreachable)?;
        Ok(Wire { channel, _connection: connection })
    }

    /// Does something on a channel of its own.
    pub(super) async fn with_channel<F: Future<Output = lapin::Result<()>>>(
        &self,
        address: &super::Address,
        work: impl FnOnce(Channel) -> F,
    ) -> Result<()> {
        let wire = self.wire().await?;
        let done = timeout(ANSWER_LIMIT, work(wire.channel.clone())).await.map_err(|_| late())?;
        done.map_err(|error| super::translate(&error, address))
    }

    async fn connection(&self) -> Result<Arc<Connection>> {
        let mut open = self.open.lock().await;
        open.connections.retain(|connection| connection.strong_count() > 0);
        let usable = open.connections.iter().filter_map(Weak::upgrade);
        // Whoever uses it holds it once for each channel; this look is one more.
        let found = usable.into_iter().find(|it| it.status().connected() && Arc::strong_count(it) <= CHANNELS);
        if let Some(connection) = found {
            return Ok(connection);
        }
        if let Some((at, error)) = &open.failed
            && at.elapsed() < CONNECT_PAUSE
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
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut last = late();
        while let Some(login) = logins.pop() {
            let connecting = connect_silently(self.uri(login));
            last = match timeout(ANSWER_LIMIT, connecting).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) if is_refusal(&error) => unreachable(error),
                Ok(Err(error)) => return Err(unreachable(error)),
                Err(_) => return Err(late()),
            };
        }
        Err(last)
    }

    fn uri(&self, login: Login) -> AMQPUri {
        let Login { user, password } = login;
        let userinfo = AMQPUserInfo { username: user, password: password.expose_secret().to_owned() };
        AMQPUri {
            scheme: AMQPScheme::AMQP,
            authority: AMQPAuthority { userinfo, host: self.broker.host.clone(), port: self.broker.port },
            vhost: self.broker.vhost.clone(),
            query: AMQPQueryString {
                frame_max: Some(PART_BYTES),
                heartbeat: Some(HEARTBEAT_SECONDS),
                ..AMQPQueryString::default()
            },
        }
    }
}

thread_local! {
    static SILENCE: RefCell<Option<DefaultGuard>> = const { RefCell::new(None) };
}

/// Connects without that the client tells what it sends: at the finest level of the log that is the password too.
async fn connect_silently(uri: AMQPUri) -> lapin::Result<Connection> {
    let connect = async |uri: AMQPUri, runtime| {
        // This is the connection's own thread, which says nothing from here to its end.
        SILENCE.set(Some(dispatcher::set_default(&Dispatch::none())));
        let opened = uri.connect_with_config_async(OwnedTLSConfig::default().as_ref(), &runtime).await;
        opened.map_err(lapin::Error::from)
    };
    Connection::connector(uri, default_runtime()?, connect, ConnectionProperties::default()).await
}

/// True where the broker does not know the login.
fn is_refusal(error: &lapin::Error) -> bool {
    let ErrorKind::ProtocolError(said) = error.kind() else { return false };
    *said.kind() == AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)
}

/// What a connection that failed is to whoever needs it. The client's own words never hold the password.
fn unreachable(error: lapin::Error) -> Error {
    Error::unavailable("the message broker cannot be reached").because(error)
}

fn late() -> Error {
    Error::unavailable("the message broker does not answer in time")
}
