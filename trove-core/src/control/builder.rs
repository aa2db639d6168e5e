use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Inner, Trove, keys};
use crate::{
    conductor,
    datastore::{Driver, Manifest},
    error::{Error, Result},
    events::Events,
    flow::{self, Engine},
    guest::{self, Guests},
    model::{ByteSize, DatastoreVersion, Flavor, gib, mib},
    platform::Platform,
    rpc::{Bus, InProcess},
    secret::KeyProvider,
    store::{Store, StoredVersion},
    taskmanager::{ControlPlane, keep_guests, registry, reseal},
    time::{Clock, Timestamp, after},
};

/// How often to look for instances that have an older revision of their configuration group than there is.
const FOLLOW_EVERY: Duration = Duration::from_secs(5);

/// What a request may ask for at the most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest volume. Default: 16 TiB.
    pub volume: ByteSize,
    /// The most databases, and the most users, in one request. Default: 100.
    pub accounts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { volume: gib(16 << 10), accounts: 100 }
    }
}

/// Puts a [`Trove`] together.
///
/// A store, a platform and a datastore are needed; the rest has defaults.
#[derive(Default)]
#[must_use]
pub struct Builder {
    store: Option<String>,
    platform: Option<Platform>,
    drivers: Vec<Arc<dyn Driver>>,
    flavors: Vec<Flavor>,
    limits: Limits,
    keys: Option<Arc<dyn KeyProvider>>,
    bus: Option<Arc<dyn Bus>>,
    flow: flow::Settings,
    guest: guest::Settings,
    clock: Clock,
}

impl Builder {
    /// Where instances are written down: `sqlite:trove.db` or `postgres://user:password@host/database`.
    pub fn store(mut self, url: impl Into<String>) -> Self {
        self.store = Some(url.into());
        self
    }

    /// What instances are made of.
    pub fn platform(mut self, platform: impl Into<Platform>) -> Self {
        self.platform = Some(platform.into());
        self
    }

    /// Adds a datastore to offer.
    pub fn datastore(mut self, driver: impl Driver) -> Self {
        self.drivers.push(Arc::new(driver));
        self
    }

    /// Adds a flavor to offer. The first added is the default; without any there are `small` (512 MiB, 1 processor),
    /// `medium` (2 GiB, 2) and `large` (8 GiB, 4).
    pub fn flavor(mut self, flavor: Flavor) -> Self {
        self.flavors.push(flavor);
        self
    }

    /// What a request may ask for at the most.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Where the [master keys](crate::secret) come from, by which passwords and keys of guests are sealed in the store.
    ///
    /// Without this, a SQLite store has a [`KeyFile`](crate::secret::KeyFile) beside it, of the same name with `.key`
    /// added. A PostgreSQL store, which other processes and its backups can read, needs it.
    pub fn keys(mut self, provider: impl KeyProvider) -> Self {
        self.keys = Some(Arc::new(provider));
        self
    }

    /// What guests are called over. Unless told otherwise, guests live in this process, and so does the bus.
    pub fn bus(mut self, bus: impl Bus) -> Self {
        self.bus = Some(Arc::new(bus));
        self
    }

    /// How the flow engine works.
    pub fn flow_settings(mut self, settings: flow::Settings) -> Self {
        self.flow = settings;
        self
    }

    /// How guest agents work.
    pub fn guest_settings(mut self, settings: guest::Settings) -> Self {
        self.guest = settings;
        self
    }

    /// The clock to go by; the system's unless told otherwise.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the store, seals with the current master key what is sealed by a former one, goes on with what an earlier
    /// process left unfinished, and gives existing instances their agents.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::error::Kind::Invalid) where a part or a master key that is still needed is missing or two
    /// datastores share a name, and what [`Store::connect`] and the [`KeyProvider`] say.
    pub async fn start(self) -> Result<Trove> {
        let missing = |what: &str| Error::invalid(format!("the service needs a {what}"));
        let url = self.store.ok_or_else(|| missing("store"))?;
        let platform = self.platform.ok_or_else(|| missing("platform"))?;
        if self.drivers.is_empty() {
            return Err(missing("datastore"));
        }
        let manifests: Vec<_> = self.drivers.iter().map(|driver| driver.manifest().clone()).collect();
        let mut drivers = HashMap::new();
        for driver in self.drivers {
            let name = driver.manifest().name.clone();
            if drivers.insert(name.clone(), driver).is_some() {
                return Err(Error::invalid(format!("two datastores are called {name:?}")));
            }
        }
        let flavors = if self.flavors.is_empty() { default_flavors() } else { self.flavors };
        let store = Store::connect(&url).await?;
        let keys = match self.keys {
            Some(provider) => keys::ask(provider.as_ref()).await?,
            None => keys::own(&store, &url).await?,
        };
        let flows = registry();
        reseal(&store, &keys, &flows).await?;
        register(&store, &manifests, self.clock.now()).await?;

        let events = Events::new();
        let (shutdown, last_words) = (CancellationToken::new(), CancellationToken::new());
        let (reports, conductor) = conductor::start(store.clone(), events.clone(), last_words.clone());
        let bus = self.bus.unwrap_or_else(|| Arc::new(InProcess::new()));
        let guests = Guests::new(drivers, bus, self.guest, self.clock.clone(), reports);
        let control = Arc::new(ControlPlane {
            store: store.clone(),
            platform,
            guests,
            keys,
            places: Default::default(),
            trials: Default::default(),
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
        let keeper = tokio::spawn({
            let (control, shutdown) = (control.clone(), shutdown.clone());
            async move {
                let ended = control.end_trials();
                let both = futures_util::future::join(ended, keep_guests(control.clone()));
                shutdown.run_until_cancelled(both).await;
            }
        });
        engine.start(shutdown.clone());
        let trove = Trove(Arc::new(Inner {
            control,
            engine,
            manifests,
            flavors,
            limits: self.limits,
            clock: self.clock,
            events,
            _stop: (shutdown.clone().drop_guard(), last_words.clone().drop_guard()),
            shutdown,
            last_words,
            tasks: Mutex::new(vec![keeper, conductor]),
        }));
        let follower = tokio::spawn(follow_groups(Arc::downgrade(&trove.0), trove.0.shutdown.clone()));
        trove.0.tasks.lock().await.push(follower);
        Ok(trove)
    }
}

/// Gives instances the latest revision of their group, those that could not be given it when it was made.
async fn follow_groups(trove: Weak<Inner>, shutdown: CancellationToken) {
    while shutdown.run_until_cancelled(tokio::time::sleep(FOLLOW_EVERY)).await.is_some() {
        let Some(trove) = trove.upgrade() else { return };
        if let Err(error) = Trove(trove).configure_behind().await {
            tracing::warn!(error = error.report(), "cannot give instances their configuration");
        }
    }
}

/// Writes the versions that the drivers bring into the registry, where nobody said otherwise.
async fn register(store: &Store, manifests: &[Manifest], now: Timestamp) -> Result<()> {
    for manifest in manifests {
        for (place, version) in manifest.versions.iter().enumerate() {
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
                        // In their order, which is that of their addition.
                        created_at: after(now, Duration::from_micros(u64::try_from(place).unwrap_or_default())),
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
