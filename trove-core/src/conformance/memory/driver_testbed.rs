//! The testbed of the driver suite for servers in a [`World`].

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{Inner, Server, World};
use crate::{
    conformance::driver::{
        Artifact, ClientLogin, ClientSession, DriverTestbed, SampleSettings, ServerFault, SuiteOptions,
    },
    datastore::{Driver, GuestHost, Release},
    error::{Error, Result},
    id::InstanceId,
    model::{ByteSize, Condition, Flavor, Health, Instance, Problem, UserName, mib},
    platform::{Compute, EndpointRequest, Ensured, Networks, Placement, Volumes},
    time::Timestamp,
};

/// A testbed whose servers are in a [`World`]. Created by [`World::testbed`].
pub struct MemoryTestbed {
    world: World,
    driver: Arc<dyn Driver>,
}

/// A client session. It ends with its server, its user or its privilege.
struct MemorySession {
    world: World,
    instance: InstanceId,
    number: u64,
}

/// The state of a session on the server.
#[derive(Clone, Debug)]
pub(super) struct SessionState {
    pub(super) user: String,
    pub(super) database: Option<String>,
}

/// The table of each database.
pub(super) type Tables = BTreeMap<String, BTreeMap<String, String>>;

impl World {
    /// Returns a testbed for the driver of this environment.
    pub fn testbed(&self) -> MemoryTestbed {
        self.testbed_for(Arc::new(self.driver()))
    }

    /// Returns a testbed for another driver with servers in this environment.
    pub fn testbed_for(&self, driver: Arc<dyn Driver>) -> MemoryTestbed {
        MemoryTestbed { world: self.clone(), driver }
    }
}

#[async_trait]
impl DriverTestbed for MemoryTestbed {
    fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }

    async fn allocate(&self) -> Result<GuestHost> {
        let platform = super::MemoryPlatform::new(self.world.clone());
        let flavor = Flavor::new("small", mib(64), 1);
        let id = InstanceId::new_v4();
        let version = self.driver.manifest().version(None)?;
        let mut instance = Instance::new(id, "orders", "memory", flavor, ByteSize::default(), Timestamp::UNIX_EPOCH);
        instance.version_number.clone_from(&version.name);
        instance.image.clone_from(&version.image);
        platform.ensure_volume(id, instance.volume).await?;
        let request = EndpointRequest { public: false, port: self.driver.manifest().port };
        let Ensured::Ready(endpoint) = platform.ensure_endpoint(id, request).await? else {
            return Err(server_not_found());
        };
        for _ in 0..2 {
            if let Ensured::Ready(Placement::InProcess(host)) =
                platform.ensure_compute(&instance, &endpoint, None).await?
            {
                return Ok(*host);
            }
        }
        Err(server_not_found())
    }

    async fn release(&self, host: &GuestHost) -> Result<()> {
        self.world.inner().servers.remove(&host.instance);
        let platform = super::MemoryPlatform::new(self.world.clone());
        platform.release_compute(host.instance).await?;
        platform.release_endpoint(host.instance).await?;
        platform.release_volume(host.instance).await
    }

    async fn leftovers(&self, host: &GuestHost) -> Result<Vec<String>> {
        let server = self.world.inner().servers.get(&host.instance).map(|_| "a server".to_owned());
        Ok(server.into_iter().collect())
    }

    async fn connect(&self, host: &GuestHost, login: &ClientLogin) -> Result<Box<dyn ClientSession>> {
        let mut inner = self.world.inner();
        let server = connectable_server(&mut inner, host.instance)?;
        server.authenticate(login)?;
        server.last_session += 1;
        let session = SessionState { user: login.user.clone(), database: login.database.clone() };
        server.sessions.insert(server.last_session, session);
        let number = server.last_session;
        Ok(Box::new(MemorySession { world: self.world.clone(), instance: host.instance, number }))
    }

    async fn inject(&self, host: &GuestHost, fault: ServerFault) -> Result<()> {
        let mut inner = self.world.inner();
        let server = inner.servers.get_mut(&host.instance).ok_or_else(server_not_found)?;
        let down = |condition, message| Some(Health::Down(Problem::new(condition, message)));
        match fault {
            ServerFault::Kill => server.terminate(down(Condition::Killed, "the server was killed")),
            ServerFault::RemoveServer => server.terminate(down(Condition::Removed, "the server was removed")),
            ServerFault::DeleteData => server.terminate(down(Condition::DataMissing, "the data was deleted")),
            ServerFault::Suspend => server.fault = down(Condition::Paused, "the server is suspended"),
            ServerFault::Resume => server.fault = None,
            ServerFault::FillVolume => server.volume_full = true,
            ServerFault::FreeVolume => server.volume_full = false,
        }
        Ok(())
    }

    async fn artifacts(&self, host: &GuestHost) -> Result<Vec<Artifact>> {
        let inner = self.world.inner();
        let Some(server) = inner.servers.get(&host.instance) else { return Ok(Vec::new()) };
        let artifact =
            |location: &str, content: String| Artifact { location: location.to_owned(), content: content.into_bytes() };
        Ok(vec![artifact("server log", server.log.join("\n")), artifact("server state", format!("{server:?}"))])
    }

    fn sample_settings(&self) -> SampleSettings {
        SampleSettings {
            dynamic: Some(("max_rows".to_owned(), 5.into(), 7.into())),
            restart: Some(("cache_mib".to_owned(), 1.into(), 2.into())),
            rejected: Some(("locale".to_owned(), "nowhere".into())),
            fatal: Some(("poison".to_owned(), true.into())),
        }
    }

    fn upgrade_target(&self) -> Option<Release> {
        self.driver.manifest().versions.get(1).map(|version| Release::new(&version.name, &version.image))
    }

    fn missing_image(&self) -> Option<String> {
        Some("memory:missing".to_owned())
    }

    fn options(&self) -> SuiteOptions {
        SuiteOptions {
            case_timeout: Duration::from_secs(3600),
            concurrency: 1,
            cancellation_points: 64,
            slow_cancellation_points: 64,
            ..SuiteOptions::default()
        }
    }
}

#[async_trait]
impl ClientSession for MemorySession {
    async fn put(&mut self, name: &str, text: &str) -> Result<()> {
        self.on_server(|server, session| {
            if server.volume_full {
                return Err(Error::no_space("the volume is full"));
            }
            server.table(session)?.insert(name.to_owned(), text.to_owned());
            Ok(())
        })
    }

    async fn get(&mut self, name: &str) -> Result<Option<String>> {
        self.on_server(|server, session| Ok(server.table(session)?.get(name).cloned()))
    }

    async fn current_user(&mut self) -> Result<(String, Option<String>)> {
        self.on_server(|_, session| Ok((session.user.clone(), session.database.clone())))
    }

    async fn parameter(&mut self, name: &str) -> Result<String> {
        self.on_server(|server, _| Ok(server.settings.effective_value(name)))
    }
}

impl MemorySession {
    fn on_server<T>(&self, call: impl FnOnce(&mut Server, &SessionState) -> Result<T>) -> Result<T> {
        let mut inner = self.world.inner();
        let server = connectable_server(&mut inner, self.instance)?;
        let session = server.sessions.get(&self.number).cloned();
        call(server, &session.ok_or_else(|| Error::unavailable("the session has ended"))?)
    }
}

impl Server {
    fn authenticate(&self, login: &ClientLogin) -> Result<()> {
        use crate::secret::ExposeSecret;
        let denied = || Error::invalid("access denied");
        if login.user == super::accounts::ROOT {
            let root = self.root.as_ref().ok_or_else(denied)?;
            let database_exists = login.database.as_ref().is_none_or(|name| self.databases.contains_key(name));
            return if root.expose_secret() == login.password && database_exists { Ok(()) } else { Err(denied()) };
        }
        // Users with a host cannot log in: clients in memory have no address.
        let account = self.users.get(&UserName::new(&login.user)).ok_or_else(denied)?;
        let privileged = login.database.as_ref().is_none_or(|name| account.databases.contains(name));
        if account.password.expose_secret() == login.password && privileged { Ok(()) } else { Err(denied()) }
    }

    fn table(&mut self, session: &SessionState) -> Result<&mut BTreeMap<String, String>> {
        let database = match &session.database {
            Some(database) => database.clone(),
            // A server without databases has one table.
            None if self.databases.is_empty() => String::new(),
            None => return Err(Error::invalid("no database selected")),
        };
        Ok(self.tables.entry(database).or_default())
    }

    /// Ends the sessions that match the predicate.
    pub(super) fn end_sessions(&mut self, matches: impl Fn(&SessionState) -> bool) {
        self.sessions.retain(|_, session| !matches(session));
    }
}

fn connectable_server(inner: &mut Inner, instance: InstanceId) -> Result<&mut Server> {
    let server = inner.servers.get_mut(&instance).ok_or_else(server_not_found)?;
    if server.accepts_connections() { Ok(server) } else { Err(Error::unavailable("the server does not answer")) }
}

fn server_not_found() -> Error {
    Error::not_found("the instance has no server")
}
