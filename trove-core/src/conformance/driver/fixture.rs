use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use futures_util::poll;
use parking_lot::Mutex;
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep, timeout},
};

use super::{ClientLogin, ClientSession, DriverTestbed, ServerFault};
use crate::{
    conformance::{cancellation_points, case::skip},
    datastore::{AccountRules, Accounts, Configuration, Cx, Datastore, GuestHost, Prepare, Release, Resize, Upgrade},
    error::{Kind, Result},
    id::OperationId,
    model::{
        Condition, Flavor, Health, NewDatabase, NewUser, Observed, ParameterCatalog, Progress, Setting, SettingsState,
        mib,
    },
};

/// The time within which an asynchronous change must be observed.
const WAIT_LIMIT: Duration = Duration::from_secs(180);
/// The interval at which the server is observed while waiting.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The server that a case runs on, with the operations that cases need.
pub(in crate::conformance) struct ServerFixture {
    testbed: Arc<dyn DriverTestbed>,
    /// The host of the server.
    pub(super) host: GuestHost,
    /// The server, as the driver attached it.
    pub(super) server: Arc<dyn Datastore>,
    number: usize,
    /// The epoch of the current owner.
    epoch: AtomicU64,
    progress: Arc<Mutex<Vec<(Instant, Progress)>>>,
    /// Further hosts of this case.
    other_hosts: Mutex<Vec<GuestHost>>,
    catalog: Arc<OnceCell<ParameterCatalog>>,
}

impl ServerFixture {
    pub(super) async fn create(testbed: Arc<dyn DriverTestbed>, number: usize) -> Self {
        let host = testbed.allocate().await.unwrap_or_else(|error| panic!("could not allocate a host: {error:?}"));
        let server = attach(&*testbed, &host);
        Self {
            testbed,
            host,
            server,
            number,
            epoch: AtomicU64::new(1),
            progress: Arc::default(),
            other_hosts: Mutex::default(),
            catalog: Arc::default(),
        }
    }

    /// Hands the server over to the next case, attached again as in a new process.
    pub(super) fn for_case(mut self, number: usize) -> Self {
        self.number = number;
        self.progress = Arc::default();
        self.server = attach(&*self.testbed, &self.host);
        self
    }

    pub(super) async fn release(self) {
        for host in self.other_hosts.into_inner().iter().chain([&self.host]) {
            if let Err(error) = self.testbed.release(host).await {
                tracing::error!(instance = %host.instance, error = error.report(), "failed to release a host");
            }
        }
    }

    /// Allocates another empty host, which is released with this one.
    pub(super) async fn allocate_another(&self) -> Self {
        let other = Self::create(self.testbed.clone(), self.number).await;
        self.other_hosts.lock().push(other.host.clone());
        other
    }

    /// Returns the testbed.
    pub(super) fn testbed(&self) -> &dyn DriverTestbed {
        &*self.testbed
    }

    /// Returns a name that no other case uses on this server.
    pub(super) fn unique_name(&self, name: &str) -> String {
        format!("{name}{}", self.number)
    }

    /// Releases another host of this case early.
    pub(super) async fn release_other(&self, other: &Self) {
        self.other_hosts.lock().retain(|host| host.instance != other.host.instance);
        self.testbed.release(&other.host).await.unwrap_or_else(|error| panic!("could not release a host: {error:?}"));
    }

    /// Returns the context of a new operation of the current owner. Its progress is
    /// [recorded](Self::progress).
    pub(super) fn cx(&self) -> Cx {
        self.record_progress(Cx::new(OperationId::new_v4(), self.epoch.load(Ordering::Relaxed)))
    }

    /// Returns the context of a new operation of a new owner, who supersedes the current one.
    pub(super) fn successor(&self) -> Cx {
        self.resume(&self.cx())
    }

    /// Returns the context with which a new owner, who supersedes the current one, resumes an
    /// operation.
    pub(super) fn resume(&self, cx: &Cx) -> Cx {
        let epoch = self.epoch.fetch_add(1, Ordering::Relaxed) + 1;
        self.record_progress(Cx::new(cx.operation(), epoch).with_step(cx.step()))
    }

    fn record_progress(&self, cx: Cx) -> Cx {
        let recorded = self.progress.clone();
        cx.with_progress(Arc::new(move |progress| {
            recorded.lock().push((Instant::now(), progress));
        }))
    }

    /// Returns all progress that calls with contexts of this fixture reported.
    pub(super) fn progress(&self) -> Vec<(Instant, Progress)> {
        self.progress.lock().clone()
    }

    /// Returns the initial contents of a server: the database `app`, if the engine has databases,
    /// and its user `app` with the password `secret`.
    pub(super) fn spec(&self) -> Prepare {
        let Some(rules) = self.account_rules() else { return Prepare::default() };
        let user = NewUser::new("app", "secret");
        match rules.databases {
            true => Prepare::new(vec![NewDatabase::new("app")], vec![user.granted("app")]),
            false => Prepare::new(Vec::new(), vec![user]),
        }
    }

    /// Prepares the server with [`spec`](Self::spec).
    pub(super) async fn prepare(&self) {
        let prepared = self.server.prepare(&self.cx(), &self.spec()).await;
        prepared.unwrap_or_else(|error| panic!("prepare: {error:?}"));
    }

    /// Attaches the server again, as a new process does. Once the new process has changed something,
    /// the process of [`server`](Self::server) is considered dead.
    pub(super) fn reattach(&self) -> Arc<dyn Datastore> {
        attach(&*self.testbed, &self.host)
    }

    /// Stops and starts the server.
    pub(super) async fn restart(&self) {
        self.server.stop(&self.cx()).await.unwrap_or_else(|error| panic!("stop: {error:?}"));
        self.server.start(&self.cx()).await.unwrap_or_else(|error| panic!("start: {error:?}"));
    }

    /// Makes a call whose reply is lost because its process dies, and repeats it as the next owner,
    /// in another process.
    pub(super) async fn repeat_after_lost_reply(&self, call: impl AsyncFn(&dyn Datastore, &Cx) -> Result<()>) {
        let cx = self.cx();
        let first = call(&*self.reattach(), &cx).await;
        first.unwrap_or_else(|error| panic!("first call: {error:?}"));
        let repeated = call(&*self.reattach(), &self.resume(&cx)).await;
        repeated.unwrap_or_else(|error| panic!("repeated call: {error:?}"));
    }

    /// Returns the rules for names, if the driver supports accounts.
    pub(super) fn account_rules(&self) -> Option<AccountRules> {
        let present = self.server.abilities().accounts.is_some();
        self.testbed.driver().manifest().accounts.clone().filter(|_| present)
    }

    /// Returns the accounts of the server.
    pub(super) fn accounts(&self) -> &dyn Accounts {
        self.server.abilities().accounts.unwrap_or_else(|| skip("the driver does not support accounts"))
    }

    /// Returns the configuration of the server.
    pub(super) fn configuration(&self) -> &dyn Configuration {
        self.server.abilities().configuration.unwrap_or_else(|| skip("the driver does not support configuration"))
    }

    /// Returns the configuration of the server as another process attached it.
    pub(super) fn configuration_of<'a>(&self, server: &'a dyn Datastore) -> &'a dyn Configuration {
        server.abilities().configuration.unwrap_or_else(|| skip("the driver does not support configuration"))
    }

    /// Returns a parameter that takes effect immediately, with two values. Skips the case if the
    /// testbed has none.
    pub(super) fn dynamic_parameter(&self) -> (String, Setting, Setting) {
        self.require_sessions();
        self.testbed
            .sample_settings()
            .dynamic
            .unwrap_or_else(|| skip("the testbed has no sample of a dynamic parameter"))
    }

    /// Returns a parameter that requires a restart, with two values. Skips the case if the testbed
    /// has none.
    pub(super) fn static_parameter(&self) -> (String, Setting, Setting) {
        self.require_sessions();
        self.testbed
            .sample_settings()
            .restart
            .unwrap_or_else(|| skip("the testbed has no sample of a parameter that requires a restart"))
    }

    /// Returns a setting that prevents the server from starting. Skips the case if the testbed has
    /// none.
    pub(super) fn fatal_setting(&self) -> (String, Setting) {
        let fatal = self.testbed.sample_settings().fatal;
        fatal.unwrap_or_else(|| skip("the testbed has no sample of a fatal setting"))
    }

    /// Returns the effective value of a parameter in a new session.
    pub(super) async fn effective_value(&self, name: &str) -> String {
        self.app_session().await.parameter(name).await.unwrap_or_else(|error| panic!("{name}: {error:?}"))
    }

    /// Returns a flavor with more memory than the server has.
    pub(super) fn larger_flavor(&self) -> Flavor {
        let current = &self.host.flavor;
        Flavor::new("larger", mib(current.memory.as_mib() * 3 / 2), current.vcpus)
    }

    /// Returns the upgrade ability of the server.
    pub(super) fn upgrade(&self) -> &dyn Upgrade {
        self.server.abilities().upgrade.unwrap_or_else(|| skip("the driver does not support upgrades"))
    }

    /// Returns the current release of the server and the one to upgrade to. Skips the case if the
    /// testbed has none.
    pub(super) fn releases(&self) -> (Release, Release) {
        let target = self.testbed.upgrade_target().unwrap_or_else(|| skip("the testbed has no upgrade target"));
        (self.current_release(), target)
    }

    /// Returns the release of the host.
    pub(super) fn current_release(&self) -> Release {
        let mut release = Release::new(&self.host.version, &self.host.image);
        release.login.clone_from(&self.host.login);
        release
    }

    /// Returns the resize ability of the server.
    pub(super) fn resize(&self) -> &dyn Resize {
        self.server.abilities().resize.unwrap_or_else(|| skip("the driver does not support resizing"))
    }

    /// Returns the parameter catalog, read once for all cases that share the server.
    pub(super) async fn catalog(&self) -> &ParameterCatalog {
        let read = || async { self.configuration().catalog(&self.cx()).await };
        self.catalog.get_or_try_init(read).await.unwrap_or_else(|error| panic!("catalog: {error:?}"))
    }

    /// Returns the state of the settings as a process observes it.
    pub(super) async fn settings_state(&self, server: &dyn Datastore) -> SettingsState {
        let observed = server.observe(&self.cx()).await.unwrap_or_else(|error| panic!("observe: {error:?}"));
        observed.settings.unwrap_or_else(|| panic!("no state of the settings was reported"))
    }

    /// Opens a session as the user `app`.
    pub(super) async fn app_session(&self) -> Box<dyn ClientSession> {
        self.require_sessions();
        self.session(&self.app_login()).await
    }

    /// Skips the case if there are no users to open sessions.
    fn require_sessions(&self) {
        if self.account_rules().is_none() {
            skip("without accounts there are no client sessions");
        }
    }

    fn app_login(&self) -> ClientLogin {
        let login = ClientLogin::new("app", "secret");
        match self.account_rules() {
            Some(rules) if rules.databases => login.database("app"),
            Some(_) | None => login,
        }
    }

    /// Writes a text as the user `app`, if there are users, for
    /// [`assert_marker`](Self::assert_marker) to find.
    pub(super) async fn write_marker(&self, text: &str) {
        if self.account_rules().is_some() {
            let written = self.app_session().await.put(&self.unique_name("marker"), text).await;
            written.unwrap_or_else(|error| panic!("could not write the marker: {error:?}"));
        }
    }

    /// Asserts that the server still has the text that this case wrote.
    pub(super) async fn assert_marker(&self, text: &str) {
        if self.account_rules().is_some() {
            let found = self.app_session().await.get(&self.unique_name("marker")).await;
            let found = found.unwrap_or_else(|error| panic!("could not read the marker: {error:?}"));
            assert_eq!(found.as_deref(), Some(text), "written data was lost");
        }
    }

    /// Returns true if the server rejects the user `app`, or there are no users.
    pub(super) async fn app_cannot_log_in(&self) -> bool {
        self.account_rules().is_none() || self.testbed.connect(&self.host, &self.app_login()).await.is_err()
    }

    /// Asserts that the user `app` can write, if there are users.
    pub(super) async fn assert_app_can_write(&self) {
        self.wait_until_healthy().await;
        self.write_marker("serving").await;
    }

    /// Asserts that nothing of the instance is left except its host and its data.
    pub(super) async fn assert_no_leftovers(&self) {
        assert_eq!(self.leftovers().await, [""; 0], "resources were left behind");
    }

    /// Returns the resources of the instance other than its host and its data.
    pub(super) async fn leftovers(&self) -> Vec<String> {
        self.testbed.leftovers(&self.host).await.unwrap_or_else(|error| panic!("leftovers: {error:?}"))
    }

    /// Returns the name of an image that does not exist, and whether the testbed provided it. If
    /// not, the driver cannot tell a missing image from an unreachable registry.
    pub(super) fn missing_image(&self) -> (String, bool) {
        match self.testbed.missing_image() {
            Some(image) => (image, true),
            None => ("registry.invalid/trove:missing".to_owned(), false),
        }
    }

    /// Opens a session. Fails the case if the server rejects the login.
    pub(super) async fn session(&self, login: &ClientLogin) -> Box<dyn ClientSession> {
        let session = self.testbed.connect(&self.host, login).await;
        session.unwrap_or_else(|error| panic!("login failed for {login:?}: {error:?}"))
    }

    /// Injects a fault. Skips the case if the testbed does not support it.
    pub(super) async fn inject(&self, fault: ServerFault) {
        match self.testbed.inject(&self.host, fault).await {
            Ok(()) => {}
            Err(error) if error.kind() == Kind::Unsupported => skip(error.to_string()),
            Err(error) => panic!("could not inject {fault:?}: {error:?}"),
        }
    }

    /// Observes the server through the driver, which must answer in time whatever state the server
    /// is in.
    pub(super) async fn observe(&self) -> Observed {
        let limit = self.testbed.options().observe_timeout;
        let observed = timeout(limit, self.server.observe(&self.cx())).await;
        let observed = observed.unwrap_or_else(|_| panic!("observe took longer than {} s", limit.as_secs()));
        observed.unwrap_or_else(|error| panic!("observe: {error:?}"))
    }

    /// Makes a call, and [observes](Self::observe) the server at intervals until the call returns.
    pub(super) async fn observe_during<T>(&self, call: impl Future<Output = T>) -> T {
        let mut call = pin!(call);
        if let Poll::Ready(done) = poll!(call.as_mut()) {
            return done;
        }
        loop {
            self.observe().await;
            if let Ok(done) = timeout(POLL_INTERVAL, call.as_mut()).await {
                return done;
            }
        }
    }

    /// Waits until an observation satisfies a condition, described by `what`.
    pub(super) async fn wait_for(&self, what: &str, wanted: impl Fn(&Observed) -> bool) -> Observed {
        let started = Instant::now();
        loop {
            let observed = self.observe().await;
            if wanted(&observed) {
                return observed;
            }
            assert!(started.elapsed() < WAIT_LIMIT, "never observed: {what}; last: {observed:?}");
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until a problem with this condition is observed.
    pub(super) async fn wait_for_condition(&self, wanted: Condition) -> Observed {
        let matches =
            |observed: &Observed| observed.health.problem().is_some_and(|problem| problem.condition == wanted);
        self.wait_for(&format!("{wanted:?}"), matches).await
    }

    /// Waits until the server is healthy.
    pub(super) async fn wait_until_healthy(&self) {
        self.wait_for("healthy", |observed| observed.health == Health::Healthy).await;
    }

    /// Completes a call once, then repeats it and drops it at its first await, at its second, and
    /// so on. After each run, `check` asserts that nothing was lost and restores the state for the
    /// next. The [options](super::SuiteOptions) of the testbed limit the number of awaits.
    pub(super) async fn drop_at_every_await<F: Future>(&self, call: impl FnMut() -> F, check: impl AsyncFnMut(usize)) {
        cancellation_points::drop_at_every_await(self.testbed.options().cancellation_points, call, check).await;
    }

    /// The same for a call whose effects take the start of a server, or longer, to restore.
    pub(super) async fn drop_at_some_awaits<F: Future>(&self, call: impl FnMut() -> F, check: impl AsyncFnMut(usize)) {
        cancellation_points::drop_at_every_await(self.testbed.options().slow_cancellation_points, call, check).await;
    }
}

/// Returns the kind of the error of a call that must fail.
#[track_caller]
pub(super) fn error_kind<T: std::fmt::Debug>(result: Result<T>) -> Kind {
    match result {
        Ok(value) => panic!("the call should fail, but returned {value:?}"),
        Err(error) => error.kind(),
    }
}

fn attach(testbed: &dyn DriverTestbed, host: &GuestHost) -> Arc<dyn Datastore> {
    let server = testbed.driver().attach(host.clone());
    server.unwrap_or_else(|error| panic!("could not attach the datastore: {error:?}"))
}
