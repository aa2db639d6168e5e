use std::{
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use futures_util::poll;
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep, timeout},
};

use super::{ClientLogin, ClientSession, Fault, Testbed};
use crate::{
    conformance::{cancellation, case::skip},
    datastore::{AccountRules, Accounts, Configuration, Cx, Datastore, GuestHost, Prepare, Release, Resize, Upgrade},
    error::{Kind, Result},
    id::OperationId,
    model::{
        Condition, Flavor, Health, NewDatabase, NewUser, Observed, ParameterCatalog, Progress, Setting, SettingsState,
        mib,
    },
};

/// How long what happens by itself may take to be seen.
const WAIT_LIMIT: Duration = Duration::from_secs(180);
/// How often is looked for it.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// One case on one server: what it is done with.
pub struct ServerFixture {
    testbed: Arc<dyn Testbed>,
    /// The place of the server.
    pub host: GuestHost,
    /// The server, as the driver gave it.
    pub server: Arc<dyn Datastore>,
    number: usize,
    /// The present owner's.
    epoch: AtomicU64,
    progress: Arc<Mutex<Vec<(Instant, Progress)>>>,
    /// Other places of this fixture.
    others: Mutex<Vec<GuestHost>>,
    catalog: Arc<OnceCell<ParameterCatalog>>,
}

impl ServerFixture {
    pub(super) async fn create(testbed: Arc<dyn Testbed>, number: usize) -> Self {
        let host = testbed.allocate().await.unwrap_or_else(|error| panic!("there is no place: {error:?}"));
        let server = attach(&*testbed, &host);
        let (epoch, others) = (AtomicU64::new(1), Mutex::default());
        Self { testbed, host, server, number, epoch, progress: Arc::default(), others, catalog: Arc::default() }
    }

    /// The next case on the same server, in a process that has just begun.
    pub(super) fn for_case(mut self, number: usize) -> Self {
        self.number = number;
        self.progress = Arc::default();
        self.server = attach(&*self.testbed, &self.host);
        self
    }

    pub(super) async fn release(self) {
        let others = self.others.into_inner().unwrap_or_else(PoisonError::into_inner);
        for host in others.iter().chain([&self.host]) {
            if let Err(error) = self.testbed.release(host).await {
                tracing::error!(error = error.report(), "a place of the suite is left behind");
            }
        }
    }

    /// Another place with nothing in it, which is cleared with this one.
    pub async fn another(&self) -> Self {
        let other = Self::create(self.testbed.clone(), self.number).await;
        self.others.lock().unwrap_or_else(PoisonError::into_inner).push(other.host.clone());
        other
    }

    /// What does things behind the driver's back.
    pub fn testbed(&self) -> &dyn Testbed {
        &*self.testbed
    }

    /// A name that no other case on this server uses.
    pub fn unique_name(&self, name: &str) -> String {
        format!("{name}{}", self.number)
    }

    /// Clears another place of this fixture now.
    pub async fn release_other(&self, other: &Self) {
        self.others.lock().unwrap_or_else(PoisonError::into_inner).retain(|host| host.instance != other.host.instance);
        self.testbed.release(&other.host).await.unwrap_or_else(|error| panic!("clear: {error:?}"));
    }

    /// The context of a new operation of the present owner, whose progress is [recorded](Self::progress).
    pub fn cx(&self) -> Cx {
        self.listening(Cx::new(OperationId::new_v4(), self.epoch.load(Ordering::Relaxed)))
    }

    /// The same for another owner, who follows the present one and takes its place.
    pub fn successor(&self) -> Cx {
        self.resumed(&self.cx())
    }

    /// The operation of this context as another owner goes on with it, who follows the present one and takes its place.
    pub fn resumed(&self, cx: &Cx) -> Cx {
        let epoch = self.epoch.fetch_add(1, Ordering::Relaxed) + 1;
        self.listening(Cx::new(cx.operation(), epoch).with_step(cx.step()))
    }

    fn listening(&self, cx: Cx) -> Cx {
        let recorded = self.progress.clone();
        cx.with_progress(Arc::new(move |progress| {
            recorded.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), progress));
        }))
    }

    /// All progress that calls with [`cx`](Self::cx) told.
    pub fn progress(&self) -> Vec<(Instant, Progress)> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a server begins with here: database `app`, where there are databases, and its user `app` with password
    /// `secret`.
    pub fn spec(&self) -> Prepare {
        let Some(rules) = self.account_rules() else { return Prepare::default() };
        let user = NewUser::new("app", "secret");
        match rules.databases {
            true => Prepare::new(vec![NewDatabase::new("app")], vec![user.granted("app")]),
            false => Prepare::new(Vec::new(), vec![user]),
        }
    }

    /// Prepares the server with [`spec`](Self::spec).
    pub async fn prepare(&self) {
        let prepared = self.server.prepare(&self.cx(), &self.spec()).await;
        prepared.unwrap_or_else(|error| panic!("prepare: {error:?}"));
    }

    /// The server as another process sees it, which has just begun. Where it changes something, this fixture's own process
    /// counts as dead.
    pub fn reattach(&self) -> Arc<dyn Datastore> {
        attach(&*self.testbed, &self.host)
    }

    /// Stops the server and starts it.
    pub async fn restart(&self) {
        self.server.stop(&self.cx()).await.unwrap_or_else(|error| panic!("stop: {error:?}"));
        self.server.start(&self.cx()).await.unwrap_or_else(|error| panic!("start: {error:?}"));
    }

    /// Makes a call whose reply is lost with its process, and once more by the owner that follows, in another process.
    pub async fn repeat_after_lost_reply(&self, call: impl AsyncFn(&dyn Datastore, &Cx) -> Result<()>) {
        let cx = self.cx();
        let first = call(&*self.reattach(), &cx).await;
        first.unwrap_or_else(|error| panic!("{error:?}"));
        let again = call(&*self.reattach(), &self.resumed(&cx)).await;
        again.unwrap_or_else(|error| panic!("made again: {error:?}"));
    }

    /// What names have to be like, where the driver has accounts.
    pub fn account_rules(&self) -> Option<AccountRules> {
        let shown = self.server.abilities().accounts.is_some();
        self.testbed.driver().manifest().accounts.clone().filter(|_| shown)
    }

    /// The accounts of the server.
    pub fn accounts(&self) -> &dyn Accounts {
        self.server.abilities().accounts.unwrap_or_else(|| skip("the driver has no accounts"))
    }

    /// The configuration of the server.
    pub fn configuration(&self) -> &dyn Configuration {
        self.server.abilities().configuration.unwrap_or_else(|| skip("the driver has no configuration"))
    }

    /// The same of the server as another process sees it.
    pub fn configuration_of<'a>(&self, server: &'a dyn Datastore) -> &'a dyn Configuration {
        server.abilities().configuration.unwrap_or_else(|| skip("the driver has no configuration"))
    }

    /// A parameter that is changed at once, and two values; leaves the case where the testbed names none.
    pub fn dynamic_parameter(&self) -> (String, Setting, Setting) {
        self.has_sessions();
        self.testbed
            .sample_settings()
            .dynamic
            .unwrap_or_else(|| skip("the testbed names no parameter that is changed at once"))
    }

    /// A parameter that needs a restart, and two values; leaves the case where the testbed names none.
    pub fn static_parameter(&self) -> (String, Setting, Setting) {
        self.has_sessions();
        self.testbed
            .sample_settings()
            .restart
            .unwrap_or_else(|| skip("the testbed names no parameter that needs a restart"))
    }

    /// A value with which the server does not start; leaves the case where the testbed names none.
    pub fn fatal_setting(&self) -> (String, Setting) {
        let fatal = self.testbed.sample_settings().fatal;
        fatal.unwrap_or_else(|| skip("the testbed names no value with which the server does not start"))
    }

    /// The value of a parameter that is in force for a new session.
    pub async fn effective_value(&self, name: &str) -> String {
        self.app_session().await.parameter(name).await.unwrap_or_else(|error| panic!("{name}: {error:?}"))
    }

    /// A flavor with more memory than the server has.
    pub fn larger_flavor(&self) -> Flavor {
        let present = &self.host.flavor;
        Flavor::new("larger", mib(present.memory.as_mib() * 3 / 2), present.vcpus)
    }

    /// The server's changes of its release.
    pub fn upgrade(&self) -> &dyn Upgrade {
        self.server.abilities().upgrade.unwrap_or_else(|| skip("the driver has no upgrades"))
    }

    /// The release that the server has, and the one to upgrade it to; leaves the case where the testbed has none.
    pub fn releases(&self) -> (Release, Release) {
        let other = self.testbed.upgrade_target().unwrap_or_else(|| skip("the testbed has no release to upgrade to"));
        (self.current_release(), other)
    }

    /// The release that the place says.
    pub fn current_release(&self) -> Release {
        let mut release = Release::new(&self.host.version, &self.host.image);
        release.login.clone_from(&self.host.login);
        release
    }

    /// The server's changes of its size.
    pub fn resize(&self) -> &dyn Resize {
        self.server.abilities().resize.unwrap_or_else(|| skip("the driver has no other sizes"))
    }

    /// The catalog, read once for all cases that share the server.
    pub async fn catalog(&self) -> &ParameterCatalog {
        let read = || async { self.configuration().catalog(&self.cx()).await };
        self.catalog.get_or_try_init(read).await.unwrap_or_else(|error| panic!("catalog: {error:?}"))
    }

    /// How the settings stand, as this process sees it.
    pub async fn settings_state(&self, server: &dyn Datastore) -> SettingsState {
        let observed = server.observe(&self.cx()).await.unwrap_or_else(|error| panic!("observe: {error:?}"));
        observed.settings.unwrap_or_else(|| panic!("how the settings stand is not told"))
    }

    /// A session as user `app`.
    pub async fn app_session(&self) -> Box<dyn ClientSession> {
        self.has_sessions();
        self.session(&self.app_login()).await
    }

    /// Leaves the case where the datastore lets nobody in.
    fn has_sessions(&self) {
        if self.account_rules().is_none() {
            skip("without accounts there is no session");
        }
    }

    fn app_login(&self) -> ClientLogin {
        let login = ClientLogin::new("app", "secret");
        match self.account_rules() {
            Some(rules) if rules.databases => login.database("app"),
            Some(_) | None => login,
        }
    }

    /// Writes a text as user `app`, where there are users; [`assert_marker`](Self::assert_marker) looks for it.
    pub async fn write_marker(&self, text: &str) {
        if self.account_rules().is_some() {
            self.app_session()
                .await
                .put(&self.unique_name("note"), text)
                .await
                .unwrap_or_else(|error| panic!("put: {error:?}"));
        }
    }

    /// Asserts that the text is there that this case wrote.
    pub async fn assert_marker(&self, text: &str) {
        if self.account_rules().is_some() {
            let found = self.app_session().await.get(&self.unique_name("note")).await;
            let found = found.unwrap_or_else(|error| panic!("get: {error:?}"));
            assert_eq!(found.as_deref(), Some(text), "what was written is not there");
        }
    }

    /// True where user `app` is not let in, or there are no users.
    pub async fn app_cannot_log_in(&self) -> bool {
        self.account_rules().is_none() || self.testbed.connect(&self.host, &self.app_login()).await.is_err()
    }

    /// User `app` can write, where there are users.
    pub async fn assert_app_can_write(&self) {
        self.wait_until_healthy().await;
        self.write_marker("it serves").await;
    }

    /// There is nothing of the instance besides its place and its data.
    pub async fn assert_no_leftovers(&self) {
        assert_eq!(self.leftovers().await, [""; 0], "something is left");
    }

    /// What there is of the instance besides its place and its data.
    pub async fn leftovers(&self) -> Vec<String> {
        self.testbed.leftovers(&self.host).await.unwrap_or_else(|error| panic!("leftovers: {error:?}"))
    }

    /// An image that does not exist, and whether that can be told: of one that the testbed does not name, the registry
    /// may be out of reach.
    pub fn missing_image(&self) -> (String, bool) {
        let known = self.testbed.missing_image();
        let told = known.is_some();
        (known.unwrap_or_else(|| "registry.invalid/trove:missing".to_owned()), told)
    }

    /// A session that must be had.
    pub async fn session(&self, login: &ClientLogin) -> Box<dyn ClientSession> {
        let session = self.testbed.connect(&self.host, login).await;
        session.unwrap_or_else(|error| panic!("{login:?} cannot log in: {error:?}"))
    }

    /// Does this to the server, or leaves the case where the testbed cannot.
    pub async fn inject(&self, fault: Fault) {
        match self.testbed.inject(&self.host, fault).await {
            Ok(()) => {}
            Err(error) if error.kind() == Kind::Unsupported => skip(error.to_string()),
            Err(error) => panic!("{fault:?}: {error:?}"),
        }
    }

    /// What the driver sees of the server. It has to answer in time, whatever the server does.
    pub async fn observe(&self) -> Observed {
        let limit = self.testbed.options().observe_timeout;
        let observed = timeout(limit, self.server.observe(&self.cx())).await;
        let observed = observed.unwrap_or_else(|_| panic!("observe took longer than {} s", limit.as_secs()));
        observed.unwrap_or_else(|error| panic!("observe: {error:?}"))
    }

    /// Makes a call that stands still again and again, while the server is [observed](Self::observe).
    pub async fn observe_during<T>(&self, call: impl Future<Output = T>) -> T {
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

    /// Waits until the driver sees this.
    pub async fn wait_for(&self, what: &str, wanted: impl Fn(&Observed) -> bool) -> Observed {
        let begun = Instant::now();
        loop {
            let observed = self.observe().await;
            if wanted(&observed) {
                return observed;
            }
            assert!(begun.elapsed() < WAIT_LIMIT, "never seen: {what}; last: {observed:?}");
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until the driver sees this condition.
    pub async fn wait_for_condition(&self, wanted: Condition) -> Observed {
        let is = |seen: &Observed| seen.health.problem().is_some_and(|problem| problem.condition == wanted);
        self.wait_for(&format!("{wanted:?}"), is).await
    }

    /// Waits until the driver sees a server that serves.
    pub async fn wait_until_healthy(&self) {
        self.wait_for("healthy", |seen| seen.health == Health::Healthy).await;
    }

    /// Makes a call to its end, and then again and again, dropped at its first await, at its second and so on. After each
    /// `check` looks whether anything was lost, and puts things back for the next. A call that has more awaits than the
    /// testbed's [options](super::SuiteOptions) allows is dropped at so many, spread over all.
    pub async fn drop_at_every_await<F: Future>(&self, call: impl FnMut() -> F, check: impl AsyncFnMut(usize)) {
        cancellation::drop_at_every_await(self.testbed.options().cancellation_points, call, check).await;
    }

    /// The same of a call after which it takes a start of a server, or more, to put things back.
    pub async fn drop_at_some_awaits<F: Future>(&self, call: impl FnMut() -> F, check: impl AsyncFnMut(usize)) {
        cancellation::drop_at_every_await(self.testbed.options().slow_cancellation_points, call, check).await;
    }
}

/// The kind of error that a call ends with, which must be one.
#[track_caller]
pub(super) fn error_kind<T: std::fmt::Debug>(result: Result<T>) -> Kind {
    match result {
        Ok(done) => panic!("it was not refused, and returned {done:?}"),
        Err(error) => error.kind(),
    }
}

fn attach(testbed: &dyn Testbed, host: &GuestHost) -> Arc<dyn Datastore> {
    let server = testbed.driver().attach(host.clone());
    server.unwrap_or_else(|error| panic!("the driver cannot be attached: {error:?}"))
}
