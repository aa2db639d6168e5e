use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{GuestIdentity, local::serves, wire};
use crate::{
    datastore::{GuestHost, RegistryLogin},
    error::{Error, Result},
    id::InstanceId,
    model::Instance,
    platform::AgentSetup,
    rpc::{Broker, BrokerEndpoint, BrokerLogin, InstanceKey},
    secret::SecretString,
};

/// What an agent of its own process is told: the content of its configuration file.
///
/// ```json
/// {
///   "guest": {
///     "instance": "5f2b…", "datastore": "postgresql", "serves": true, "epoch": 1,
///     "key": { "number": 1, "text": "…" },
///     "broker": { "host": "broker", "port": 5672, "vhost": "/", "user": "guest.5f2b….1", "password": "…" }
///   },
///   "host": { "directory": "/var/lib/databases/guests/5f2b…", "volume": "/var/lib/databases/volumes/5f2b…", … }
/// }
/// ```
#[derive(Clone)]
pub struct Configuration {
    /// The instance.
    pub instance: InstanceId,
    /// The name of its driver.
    pub datastore: String,
    /// The identity of the guest.
    pub(super) identity: GuestIdentity,
    /// The message broker to which it connects.
    pub(super) endpoint: BrokerEndpoint,
    /// Whether the server should run, or be stopped, until a job says otherwise; `None` where it is being made or removed.
    pub(super) serves: Option<bool>,
    /// Callers of a lower epoch are refused.
    pub(super) epoch: u64,
    /// Beside what it lives.
    pub host: GuestHost,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Guest {
    instance: InstanceId,
    datastore: String,
    serves: Option<bool>,
    epoch: u64,
    #[serde(with = "wire::key")]
    key: InstanceKey,
    broker: Reached,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "wire::registry_login")]
    login: Option<RegistryLogin>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reached {
    host: String,
    port: u16,
    vhost: String,
    user: String,
    #[serde(with = "wire::secret")]
    password: SecretString,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    guest: Guest,
    host: serde_json::Value,
}

/// What the agent of an instance is told that lives elsewhere; `None` where it could not reach the control plane.
pub(crate) fn setup(
    instance: &Instance,
    identity: &GuestIdentity,
    endpoint: &BrokerEndpoint,
    login: Option<RegistryLogin>,
) -> Option<AgentSetup> {
    let BrokerEndpoint::Amqp(broker) = endpoint else { return None };
    let Broker { host, port, vhost } = broker.clone();
    let BrokerLogin { user, password } = identity.login.clone();
    let guest = Guest {
        instance: instance.id,
        datastore: instance.datastore.clone(),
        serves: serves(instance),
        epoch: instance.epoch,
        key: identity.key.clone(),
        broker: Reached { host, port, vhost, user, password },
        login,
    };
    // Nothing in it refuses to be written.
    serde_json::to_string(&guest).ok().map(|text| AgentSetup::new(text.into()))
}

/// Beside what the agent of this configuration lives.
#[cfg(feature = "conformance")]
pub(crate) fn host_in(text: &str) -> Result<GuestHost> {
    let wrong = |what: &str| Error::invalid(format!("{what} the configuration of the agent"));
    Configuration::parse(text, wrong).map(|told| told.host)
}

impl Configuration {
    /// Reads it from a file, which nobody but its owner may read or write. Blocks on the file system.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::error::Kind::Invalid) for anything else, and where others may.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let wrong = |what: &str| Error::invalid(format!("{what} the configuration of the agent, {}", path.display()));
        let unreadable = |error: io::Error| wrong("cannot read").because(error);
        let mut file = File::open(path).map_err(unreadable)?;
        if file.metadata().map_err(unreadable)?.mode() & 0o077 != 0 {
            return Err(wrong("others than its owner may use"));
        }
        let mut text = Zeroizing::default();
        file.read_to_string(&mut text).map_err(unreadable)?;
        Self::parse(&text, wrong)
    }

    pub(super) fn parse(text: &str, wrong: impl Fn(&str) -> Error) -> Result<Self> {
        // What is wrong with it is not told: the message might show a part of a secret.
        let Whole { guest, host } = serde_json::from_str(text).map_err(|_| wrong("cannot make sense of"))?;
        let mut host = GuestHost::from_json(host).map_err(|error| wrong("no host in").because(error))?;
        host.login = guest.login;
        if host.instance != guest.instance {
            return Err(wrong("two instances in"));
        }
        let Reached { host: at, port, vhost, user, password } = guest.broker;
        let endpoint = BrokerEndpoint::Amqp(Broker { host: at, port, vhost });
        let Guest { instance, datastore, serves, epoch, key, .. } = guest;
        let identity = GuestIdentity { key, login: BrokerLogin { user, password } };
        Ok(Self { instance, datastore, identity, endpoint, serves, epoch, host })
    }
}
