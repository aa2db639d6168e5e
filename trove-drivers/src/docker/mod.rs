//! A thin client of the Docker Engine for the drivers and the local platform, with deadlines and
//! this project's errors.

mod container;
mod error;
mod events;
mod image;
mod network;
#[cfg(feature = "conformance")]
mod testing;

use std::{env, future::Future, path::PathBuf, sync::Arc, time::Duration};

use bollard::{API_DEFAULT_VERSION, errors::Error as ClientError};
use tokio::{sync::OnceCell, time::timeout};
use trove_core::error::{Error, Result};

pub(crate) use container::{
    ContainerInfo, ContainerSpec, Mount, Network, PublishedPort, RunState, StartOutcome, printable_tail,
};
use error::{DockerRequest, translate};
pub(crate) use events::EventWaiter;
pub(crate) use network::interface_name;

const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// How long a request to the daemon may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// How long inspecting one container may take, so that an observation completes in time.
const LOOK_DEADLINE: Duration = Duration::from_secs(2);

/// How long connecting to the daemon may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// Above all deadlines of this client, which take precedence.
const CLIENT_TIMEOUT_SECONDS: u64 = 3600;

/// A handle to the Docker Engine of this machine. Cheap to clone. Connects when it is first used,
/// and reconnects after the daemon was unavailable.
#[derive(Clone, Debug)]
pub struct Docker(Arc<DockerInner>);

#[derive(Debug)]
struct DockerInner {
    address: Address,
    client: OnceCell<bollard::Docker>,
    host: OnceCell<DockerHost>,
    events: events::EventListeners,
}

#[derive(Clone, Debug)]
enum Address {
    Socket(PathBuf),
    NotLocal(String),
}

/// Properties of the daemon's machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DockerHost {
    /// The number of CPUs.
    pub(crate) cpus: u32,
    /// True if user ids inside a container are mapped to others outside.
    pub(crate) remaps_users: bool,
}

impl Docker {
    /// Returns the Docker Engine that `DOCKER_HOST` names, or the one at the default socket. Does
    /// no I/O and cannot fail; a `DOCKER_HOST` other than a local socket is refused at the first
    /// use.
    pub fn connect() -> Self {
        let address = match env::var("DOCKER_HOST") {
            Err(_) => Address::Socket(PathBuf::from(DEFAULT_SOCKET)),
            Ok(host) if host.is_empty() => Address::Socket(PathBuf::from(DEFAULT_SOCKET)),
            Ok(host) => match host.strip_prefix("unix://") {
                Some(path) => Address::Socket(PathBuf::from(path)),
                None => Address::NotLocal(host),
            },
        };
        Self::new(address)
    }

    /// Returns the Docker Engine at this socket. Does no I/O and cannot fail.
    pub fn socket(path: impl Into<PathBuf>) -> Self {
        Self::new(Address::Socket(path.into()))
    }

    fn new(address: Address) -> Self {
        let (client, host) = (OnceCell::new(), OnceCell::new());
        Self(Arc::new(DockerInner { address, client, host, events: events::EventListeners::default() }))
    }

    /// Returns the properties of the daemon's machine, cached after the first call.
    pub(crate) async fn host(&self) -> Result<DockerHost> {
        let host = self.0.host.get_or_try_init(async || {
            let info = self.read(DockerRequest::Ask, DEADLINE, |client| async move { client.info().await }).await?;
            let options = info.security_options.unwrap_or_default();
            Ok::<_, Error>(DockerHost {
                cpus: info.ncpu.and_then(|count| u32::try_from(count).ok()).unwrap_or(1).max(1),
                remaps_users: options.iter().any(|it| it.contains("name=rootless") || it.contains("name=userns")),
            })
        });
        host.await.copied()
    }

    /// Sends a request that changes nothing.
    async fn read<T, F>(
        &self,
        action: DockerRequest<'_>,
        deadline: Duration,
        call: impl FnOnce(bollard::Docker) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let answer = timeout(deadline, async {
            let client = self.0.client().await?.clone();
            call(client).await.map_err(|error| translate(action, error))
        });
        answer.await.unwrap_or_else(|_| Err(too_slow()))
    }

    /// Sends a request that changes something. It completes even if the caller is dropped, so that
    /// nothing appears after the caller was told that the request failed. The connection is made
    /// first, while nothing has been sent.
    async fn write<T, F>(
        &self,
        action: DockerRequest<'_>,
        deadline: Duration,
        guard: impl Send + 'static,
        call: impl FnOnce(bollard::Docker) -> F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ClientError>> + Send + 'static,
    {
        let connected = timeout(deadline, self.0.client()).await.unwrap_or_else(|_| Err(too_slow()))?;
        let request = call(connected.clone());
        let request = tokio::spawn(async move {
            let answer = request.await;
            drop(guard);
            answer
        });
        match timeout(deadline, request).await {
            Ok(Ok(answer)) => answer.map_err(|error| translate(action, error)),
            Ok(Err(error)) => Err(Error::internal("a request to the Docker daemon failed").with_source(error)),
            Err(_) => Err(Error::timeout("the Docker daemon did not finish a request in time")),
        }
    }
}

impl Default for Docker {
    fn default() -> Self {
        Self::connect()
    }
}

impl DockerInner {
    async fn client(&self) -> Result<&bollard::Docker> {
        let path = match &self.address {
            Address::Socket(path) => path,
            Address::NotLocal(host) => {
                let error = Error::unsupported("databases run on the Docker Engine of this machine only");
                return Err(error.with("DOCKER_HOST", host));
            }
        };
        let connect = async || {
            let address = path.to_string_lossy();
            let client = bollard::Docker::connect_with_unix(&address, CLIENT_TIMEOUT_SECONDS, API_DEFAULT_VERSION)?;
            // All other callers wait for this connection attempt.
            let negotiated = timeout(CONNECT_DEADLINE, client.negotiate_version()).await;
            negotiated.unwrap_or(Err(ClientError::RequestTimeoutError))
        };
        let client = self.client.get_or_try_init(connect).await;
        client.map_err(|error| translate(DockerRequest::Ask, error).with("socket", path.display()))
    }
}

fn too_slow() -> Error {
    Error::unavailable("the Docker daemon does not answer in time")
}
