use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Trove, TroveInner, keys};
use crate::{
    conductor,
    datastore::{Driver, Manifest},
    error::{Error, Result},
    events::Events,
    flow::{Engine, EngineSettings},
    guest::AgentSettings,
    model::{ByteSize, DatastoreVersion, Flavor, gib, mib},
    platform::Platform,
    rpc::{InProcess, MessageBroker},
    secret::KeyProvider,
    store::{Store, StoredVersion},
    taskmanager::{ControlPlane, GuestDirectory, reconcile_guests, registry, rewrap},
    time::{Clock, Timestamp, after},
};

/// The interval between searches for instances with an outdated configuration.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(5);

/// Upper limits of requests.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// The maximum size of a volume. Default: 16 TiB.
    pub volume: ByteSize,
    /// The maximum number of databases, and of users, in one request. Default: 100.
    pub accounts: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self { volume: gib(16 << 10), accounts: 100 }
    }
}

/// Builds a [`Trove`].
///
/// A store, a platform and a datastore are required; everything else has defaults. See
/// [`Trove::builder`] for an example.
#[derive(Default)]
#[must_use]
pub struct Builder {
    store: Option<String>,
    platform: Option<Platform>,
    drivers: Vec<Arc<dyn Driver>>,
    flavors: Vec<Flavor>,
    limits: RequestLimits,
    keys: Option<Arc<dyn KeyProvider>>,
    message_broker: Option<Arc<dyn MessageBroker>>,
    flow: EngineSettings,
    guest: AgentSettings,
    clock: Clock,
}

impl Builder {
    /// Sets the URL of the store: `sqlite:trove.db`, `sqlite::memory:` or
    /// `postgres://user:password@host/database`.
    ///
    /// ```
    /// let builder = trove_core::Trove::builder().store("sqlite:trove.db");
    /// ```
    pub fn store(mut self, url: impl Into<String>) -> Self {
        self.store = Some(url.into());
        self
    }

    /// Sets the platform, which provides volumes, endpoints and compute.
    pub fn platform(mut self, platform: impl Into<Platform>) -> Self {
        self.platform = Some(platform.into());
        self
    }

    /// Adds the driver of a datastore to offer.
    pub fn datastore(mut self, driver: impl Driver) -> Self {
        self.drivers.push(Arc::new(driver));
        self
    }

    /// Adds a flavor to offer. The first one is the default. Without any, the flavors are `small`
    /// (512 MiB, 1 CPU), `medium` (2 GiB, 2 CPUs) and `large` (8 GiB, 4 CPUs).
    ///
    /// ```
    /// use trove_core::{Trove, model::{Flavor, gib}};
    ///
    /// let builder = Trove::builder().flavor(Flavor::new("standard", gib(4), 2));
    /// ```
    pub fn flavor(mut self, flavor: Flavor) -> Self {
        self.flavors.push(flavor);
        self
    }

    /// Sets the upper limits of requests.
    ///
    /// ```
    /// use trove_core::{Trove, control::RequestLimits, model::gib};
    ///
    /// let builder = Trove::builder().limits(RequestLimits { volume: gib(500), ..RequestLimits::default() });
    /// ```
    pub fn limits(mut self, limits: RequestLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the provider of the [master keys](crate::secret), which seal passwords and the keys of
    /// guests in the store.
    ///
    /// Without a provider, a SQLite store uses a [`KeyFile`](crate::secret::KeyFile) beside it,
    /// with `.key` appended to its name. A PostgreSQL store requires a provider, because other
    /// processes and its backups can read it.
    ///
    /// ```
    /// use trove_core::{Trove, secret::KeyVariable};
    ///
    /// let builder = Trove::builder().store("postgres://trove@db/trove").keys(KeyVariable::new("TROVE_MASTER_KEYS"));
    /// ```
    pub fn keys(mut self, provider: impl KeyProvider) -> Self {
        self.keys = Some(Arc::new(provider));
        self
    }

    /// Sets the message broker between the control plane and its guests. The default is [`InProcess`].
    pub fn message_broker(mut self, broker: impl MessageBroker) -> Self {
        self.message_broker = Some(Arc::new(broker));
        self
    }

    /// Sets the parameters of the flow engine.
    pub fn flow_settings(mut self, settings: EngineSettings) -> Self {
        self.flow = settings;
        self
    }

    /// Sets the parameters of guest agents.
    pub fn guest_settings(mut self, settings: AgentSettings) -> Self {
        self.guest = settings;
        self
    }

    /// Sets the clock. Default: the system clock.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Starts the service: opens the store, rewraps secrets that a former master key sealed,
    /// resumes unfinished operations, and attaches the agents of existing instances.
    ///
    /// # Errors
    ///
    /// - [`Invalid`](crate::error::Kind::Invalid) if the store, the platform, a datastore or a
    ///   required master key is missing, if two datastores have the same name, or if the URL of the
    ///   store is malformed.
    /// - [`Conflict`](crate::error::Kind::Conflict) if another process uses the store.
    /// - [`Unavailable`](crate::error::Kind::Unavailable) if the database server of the store does
    ///   not respond.
    /// - Errors of the [`KeyProvider`].
    pub async fn start(self) -> Result<Trove> {
        let missing = |what: &str| Error::invalid(format!("no {what} is configured"));
        let url = self.store.ok_or_else(|| missing("store"))?;
        let platform = self.platform.ok_or_else(|| missing("platform"))?;
        if self.drivers.is_empty() {
            return Err(missing("datastore"));
        }
        self.guest.check()?;
        let manifests: Vec<_> = self.drivers.iter().map(|driver| driver.manifest().clone()).collect();
        let mut drivers = HashMap::new();
        for driver in self.drivers {
            let name = driver.manifest().name.clone();
            if drivers.insert(name.clone(), driver).is_some() {
                return Err(Error::invalid(format!("two datastores have the name {name:?}")));
            }
        }
        let flavors = if self.flavors.is_empty() { default_flavors() } else { self.flavors };
        let store = Store::connect(&url).await?;
        let keys = match self.keys {
            Some(provider) => keys::fetch(provider.as_ref()).await?,
            None => keys::default_for(&store, &url).await?,
        };
        let flows = registry();
        rewrap(&store, &keys, &flows).await?;
        register_versions(&store, &manifests, self.clock.now()).await?;

        let events = Events::new();
        let (shutdown, reports_closed) = (CancellationToken::new(), CancellationToken::new());
        let (reports, conductor) = conductor::start(store.clone(), events.clone(), reports_closed.clone());
        let broker = self.message_broker.unwrap_or_else(|| Arc::new(InProcess::new()));
        let guests = GuestDirectory::new(drivers, broker, self.guest, self.clock.clone(), reports);
        let control = Arc::new(ControlPlane {
            store: store.clone(),
            platform,
            guests,
            keys,
            locks: Default::default(),
            scratch_servers: Default::default(),
        });
        let engine = Engine::new(
            Uuid::new_v4().to_string(),
            Arc::new(store),
            control.clone(),
            flows,
            self.flow,
            self.clock.clone(),
            events.clone(),
        );
        let reconciler = tokio::spawn({
            let (control, shutdown) = (control.clone(), shutdown.clone());
            async move {
                let ended = control.release_leftover_scratch_servers();
                let both = futures_util::future::join(ended, reconcile_guests(control.clone()));
                shutdown.run_until_cancelled(both).await;
            }
        });
        engine.start(shutdown.clone());
        let trove = Trove(Arc::new(TroveInner {
            control,
            engine,
            manifests,
            flavors,
            limits: self.limits,
            clock: self.clock,
            events,
            _stop: (shutdown.clone().drop_guard(), reports_closed.clone().drop_guard()),
            shutdown,
            reports_closed,
            tasks: Mutex::new(vec![reconciler, conductor]),
        }));
        let reconciler = tokio::spawn(reconcile_configurations(Arc::downgrade(&trove.0), trove.0.shutdown.clone()));
        trove.0.tasks.lock().await.push(reconciler);
        Ok(trove)
    }
}

/// Applies the latest revision of their group to instances that were busy when it was created.
async fn reconcile_configurations(trove: Weak<TroveInner>, shutdown: CancellationToken) {
    while shutdown.run_until_cancelled(tokio::time::sleep(RECONCILE_INTERVAL)).await.is_some() {
        let Some(trove) = trove.upgrade() else { return };
        if let Err(error) = Trove(trove).configure_outdated().await {
            tracing::warn!(error = error.report(), "failed to apply outdated configurations");
        }
    }
}

/// Writes the versions of the drivers to the registry, except those that an operator changed.
async fn register_versions(store: &Store, manifests: &[Manifest], now: Timestamp) -> Result<()> {
    for manifest in manifests {
        for (index, version) in manifest.versions.iter().enumerate() {
            match store.version(&manifest.name, &version.name).await? {
                None => {
                    let version = DatastoreVersion {
                        datastore: manifest.name.clone(),
                        name: version.name.clone(),
                        number: version.name.clone(),
                        image: version.image.clone(),
                        username: None,
                        active: true,
                        default: false,
                        // Versions are listed in order of creation.
                        created_at: after(now, Duration::from_micros(u64::try_from(index).unwrap_or_default())),
                        updated_at: now,
                    };
                    store.insert_version(&StoredVersion { version, password: None, edited: false }).await?;
                }
                Some(mut known) if !known.edited && known.version.image != version.image => {
                    known.version.image.clone_from(&version.image);
                    store.update_version(&known, known.version.updated_at).await?;
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}

fn default_flavors() -> Vec<Flavor> {
    vec![Flavor::new("small", mib(512), 1), Flavor::new("medium", gib(2), 2), Flavor::new("large", gib(8), 4)]
}
