use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{GuestIdentity, local_agent::should_run, wire};
use crate::{
    datastore::{GuestHost, RegistryLogin},
    error::{Error, Result},
    id::InstanceId,
    model::Instance,
    platform::AgentSetup,
    rpc::{Broker, BrokerEndpoint, BrokerLogin, CaCertificates, InstanceKey},
    secret::SecretString,
};

/// The configuration file of a remote agent.
///
/// ```json
/// {
///   "guest": {
///     "instance": "5f2b…", "datastore": "postgresql", "should_run": true, "epoch": 1,
///     "key": { "number": 1, "text": "…" },
///     "broker": { "host": "broker", "port": 5672, "vhost": "/", "user": "guest.5f2b….1", "password": "…",
///                 "ca": "-----BEGIN CERTIFICATE-----…" }
///   },
///   "host": { "directory": "/var/lib/databases/guests/5f2b…", "volume": "/var/lib/databases/volumes/5f2b…", … }
/// }
/// ```
#[derive(Clone)]
pub struct AgentConfig {
    /// The instance that the agent serves.
    pub instance: InstanceId,
    /// The name of the datastore, which selects the driver.
    pub datastore: String,
    /// The identity of the guest.
    pub(super) identity: GuestIdentity,
    /// The message broker that the agent connects to.
    pub(super) endpoint: BrokerEndpoint,
    /// Whether the server should run or be stopped until a job changes that; `None` while the
    /// instance is being created or deleted.
    pub(super) should_run: Option<bool>,
    /// Callers with a lower epoch are rejected.
    pub(super) epoch: u64,
    /// The host that the agent manages the server on.
    pub host: GuestHost,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GuestSection {
    instance: InstanceId,
    datastore: String,
    should_run: Option<bool>,
    epoch: u64,
    #[serde(with = "wire::key")]
    key: InstanceKey,
    broker: BrokerSection,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "wire::registry_login")]
    login: Option<RegistryLogin>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BrokerSection {
    host: String,
    port: u16,
    vhost: String,
    user: String,
    #[serde(with = "wire::secret")]
    password: SecretString,
    /// The trusted certificate authorities in PEM format; absent without TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    guest: GuestSection,
    host: serde_json::Value,
}

/// Returns the setup of a remote agent; `None` if no remote agent can connect to the control plane.
pub(crate) fn agent_setup(
    instance: &Instance,
    identity: &GuestIdentity,
    endpoint: &BrokerEndpoint,
    login: Option<RegistryLogin>,
) -> Option<AgentSetup> {
    let BrokerEndpoint::Amqp(broker) = endpoint else { return None };
    let Broker { host, port, vhost, tls } = broker.clone();
    let ca = tls.map(|trusted| trusted.pem().to_owned());
    let BrokerLogin { user, password } = identity.login.clone();
    let guest = GuestSection {
        instance: instance.id,
        datastore: instance.datastore.clone(),
        should_run: should_run(instance),
        epoch: instance.epoch,
        key: identity.key.clone(),
        broker: BrokerSection { host, port, vhost, user, password, ca },
        login,
    };
    // Cannot fail: all map keys are strings.
    serde_json::to_string(&guest).ok().map(|text| AgentSetup::new(text.into()))
}

/// Returns the host in the text of a configuration file.
#[cfg(feature = "conformance")]
pub(crate) fn host_of(text: &str) -> Result<GuestHost> {
    AgentConfig::parse(text, |problem| Error::invalid(format!("{problem} in the agent configuration")))
        .map(|config| config.host)
}

impl AgentConfig {
    /// Reads the configuration from a file that only its owner can access. Blocks on the file
    /// system.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::error::Kind::Invalid) if the file is missing or malformed, or if its mode
    /// allows access to its group or others.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let invalid =
            |problem: &str| Error::invalid(format!("{problem} in the agent configuration {}", path.display()));
        let unreadable = |error: io::Error| {
            Error::invalid(format!("could not read the agent configuration {}", path.display())).with_source(error)
        };
        let mut file = File::open(path).map_err(unreadable)?;
        if file.metadata().map_err(unreadable)?.mode() & 0o077 != 0 {
            let path = path.display();
            return Err(Error::invalid(format!("the agent configuration {path} is accessible to its group or others")));
        }
        let mut text = Zeroizing::default();
        file.read_to_string(&mut text).map_err(unreadable)?;
        Self::parse(&text, invalid)
    }

    pub(super) fn parse(text: &str, invalid: impl Fn(&str) -> Error) -> Result<Self> {
        // The source error is dropped: its message may quote a part of a secret.
        let ConfigFile { guest, host } = serde_json::from_str(text).map_err(|_| invalid("malformed JSON"))?;
        let mut host = GuestHost::from_json(host).map_err(|error| invalid("invalid host").with_source(error))?;
        host.login = guest.login;
        if host.instance != guest.instance {
            return Err(invalid("conflicting instance ids"));
        }
        let BrokerSection { host: broker_host, port, vhost, user, password, ca } = guest.broker;
        let tls = ca.map(CaCertificates::from_pem).transpose();
        let tls = tls.map_err(|error| invalid("unusable certificates").with_source(error))?;
        let endpoint = BrokerEndpoint::Amqp(Broker { host: broker_host, port, vhost, tls });
        let GuestSection { instance, datastore, should_run, epoch, key, .. } = guest;
        let identity = GuestIdentity { key, login: BrokerLogin { user, password } };
        Ok(Self { instance, datastore, identity, endpoint, should_run, epoch, host })
    }
}
