use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{Harm, Login, Session, Testbed};
use crate::{
    conformance::{case::skip, drops},
    datastore::{AccountRules, Accounts, Configuration, Cx, Datastore, GuestHost, Prepare},
    error::{Error, Kind},
    id::OperationId,
    model::{Condition, Health, NewDatabase, NewUser, Observed, Progress},
};

/// How long what happens by itself may take to be seen.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often is looked for it.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One case on one server: what it is done with.
pub struct Trial {
    testbed: Arc<dyn Testbed>,
    /// The place of the server.
    pub host: GuestHost,
    /// The server, as the driver gave it.
    pub server: Arc<dyn Datastore>,
    number: usize,
    epoch: u64,
    heard: Arc<Mutex<Vec<(Instant, Progress)>>>,
}

impl Trial {
    pub(super) async fn begin(testbed: Arc<dyn Testbed>, number: usize) -> Self {
        let host = testbed.place().await.unwrap_or_else(|error| panic!("there is no place: {error:?}"));
        let server = testbed.driver().attach(host.clone());
        let server = server.unwrap_or_else(|error| panic!("the driver cannot be attached: {error:?}"));
        Self { testbed, host, server, number, epoch: 1, heard: Arc::default() }
    }

    /// The next case on the same server.
    pub(super) fn next(mut self, number: usize) -> Self {
        self.number = number;
        self.heard = Arc::default();
        self
    }

    pub(super) async fn clear(self) {
        if let Err(error) = self.testbed.clear(&self.host).await {
            tracing::error!(error = error.report(), "a place of the suite is left behind");
        }
    }

    /// What does things behind the driver's back.
    pub fn testbed(&self) -> &dyn Testbed {
        &*self.testbed
    }

    /// A name that no other case on this server uses.
    pub fn name(&self, name: &str) -> String {
        format!("{name}{}", self.number)
    }

    /// The context of a new operation of the present owner, whose progress is [heard](Self::heard).
    pub fn cx(&self) -> Cx {
        let heard = self.heard.clone();
        Cx::new(OperationId::new_v4(), self.epoch).with_progress(Arc::new(move |progress| {
            heard.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), progress));
        }))
    }

    /// The same for another owner, who follows the present one.
    pub fn successor(&self) -> Cx {
        Cx::new(OperationId::new_v4(), self.epoch + 1)
    }

    /// All progress that calls with [`cx`](Self::cx) told.
    pub fn heard(&self) -> Vec<(Instant, Progress)> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a server begins with here: database `app`, where there are databases, and its user `app` with password
    /// `secret`.
    pub fn spec(&self) -> Prepare {
        let Some(rules) = self.rules() else { return Prepare::default() };
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

    /// The server as another process sees it, which has just begun.
    pub fn reattached(&self) -> Arc<dyn Datastore> {
        let server = self.testbed.driver().attach(self.host.clone());
        server.unwrap_or_else(|error| panic!("the driver cannot be attached again: {error:?}"))
    }

    /// What names have to be like, where the driver has accounts.
    pub fn rules(&self) -> Option<AccountRules> {
        let shown = self.server.accounts().is_some();
        self.testbed.driver().manifest().accounts.clone().filter(|_| shown)
    }

    /// The accounts of the server.
    pub fn accounts(&self) -> &dyn Accounts {
        self.server.accounts().unwrap_or_else(|| skip("the driver has no accounts"))
    }

    /// The configuration of the server.
    pub fn configuration(&self) -> &dyn Configuration {
        self.server.configuration().unwrap_or_else(|| skip("the driver has no configuration"))
    }

    /// A session as user `app`.
    pub async fn app(&self) -> Box<dyn Session> {
        let login = Login::new("app", "secret");
        let login = match self.rules() {
            None => skip("without accounts there is no session"),
            Some(rules) if rules.databases => login.database("app"),
            Some(_) => login,
        };
        self.session(&login).await
    }

    /// A session that must be had.
    pub async fn session(&self, login: &Login) -> Box<dyn Session> {
        let session = self.testbed.connect(&self.host, login).await;
        session.unwrap_or_else(|error| panic!("{login:?} cannot log in: {error:?}"))
    }

    /// Does this to the server, or leaves the case where the testbed cannot.
    pub async fn harm(&self, harm: Harm) {
        match self.testbed.harm(&self.host, harm).await {
            Ok(()) => {}
            Err(error) if error.kind() == Kind::Unsupported => skip(error.to_string()),
            Err(error) => panic!("{harm:?}: {error:?}"),
        }
    }

    /// What the driver sees of the server.
    pub async fn observe(&self) -> Observed {
        self.server.observe(&self.cx()).await.unwrap_or_else(|error| panic!("observe: {error:?}"))
    }

    /// Waits until the driver sees this.
    pub async fn sees(&self, what: &str, wanted: impl Fn(&Observed) -> bool) -> Observed {
        let begun = Instant::now();
        loop {
            let observed = self.observe().await;
            if wanted(&observed) {
                return observed;
            }
            assert!(begun.elapsed() < PATIENCE, "never seen: {what}; last: {observed:?}");
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until the driver sees this condition.
    pub async fn sees_condition(&self, wanted: Condition) -> Observed {
        let is = |seen: &Observed| seen.health.problem().is_some_and(|problem| problem.condition == wanted);
        self.sees(&format!("{wanted:?}"), is).await
    }

    /// Waits until the driver sees a server that serves.
    pub async fn sees_healthy(&self) {
        self.sees("healthy", |seen| seen.health == Health::Healthy).await;
    }

    /// Makes a call again and again, dropped at its first await, at its second and so on, until one ends. `check` looks
    /// after each whether anything was lost; a call that has more awaits than the testbed's [pace](super::Pace) allows
    /// is dropped at so many, spread over all.
    pub async fn dropped_everywhere<F: Future>(&self, call: impl FnMut() -> F, check: impl AsyncFnMut(usize)) {
        drops::dropped_everywhere(self.testbed.pace().drops, call, check).await;
    }
}

/// The kind of error that a call ends with, which must be one.
#[track_caller]
pub(super) fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> Kind {
    match result {
        Ok(done) => panic!("it was not refused, and returned {done:?}"),
        Err(error) => error.kind(),
    }
}
