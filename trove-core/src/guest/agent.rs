//! The agent of one instance: does jobs, answers about accounts, watches and mends its server.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    sync::{Notify, RwLock},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    GuestIdentity,
    heal::{Healer, Remedy},
    message::{self, Notice},
    notes::{Became, Intent, Notes},
    protocol::{AccountsCall, AccountsReply, JobEnd, Work},
};
use crate::{
    datastore::{Configuration, Cx, Datastore, Upgrade},
    error::{Error, Kind, Result},
    id::{InstanceId, OperationId},
    layer::{Deadline, Layered},
    model::{Condition, Health, Observed, Problem},
    rpc::{KeyRing, Notifier, Transport},
};

/// How long the end of a job waits until what it came to is on its way to the control plane.
const TOLD_PATIENCE: Duration = Duration::from_secs(5);

/// How guest agents work.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How often it looks at its server, besides at once when the driver says that something changed.
    pub observe_every: Duration,
    /// How often it reports when nothing changes.
    pub report_every: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { observe_every: Duration::from_secs(2), report_every: Duration::from_secs(10) }
    }
}

/// Hosts the engine of one instance.
pub(super) struct Agent {
    instance: InstanceId,
    datastore: Arc<dyn Datastore>,
    surroundings: Surroundings,
    notes: Notes,
    // Changes to the server hold it for writing, calls about accounts for reading.
    server: RwLock<()>,
    // Cancels the mending that runs now, to make room for a job.
    mending: Mutex<CancellationToken>,
    look: Notify,
    tasks: TaskTracker,
}

/// What an agent lives with.
pub(super) struct Surroundings {
    pub(super) settings: Settings,
    pub(super) notifier: Notifier,
    pub(super) keys: KeyRing,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) stop: CancellationToken,
}

impl Agent {
    /// An agent that watches its server from now on. No call to the datastore takes longer than [`Deadline`] lets it.
    pub(super) fn spawn(
        instance: InstanceId,
        datastore: Arc<dyn Datastore>,
        notes: Notes,
        surroundings: Surroundings,
    ) -> Arc<Self> {
        let agent = Arc::new(Self {
            instance,
            datastore: Arc::new(Layered::new(Deadline::default(), datastore)),
            surroundings,
            notes,
            server: RwLock::new(()),
            mending: Mutex::default(),
            look: Notify::new(),
            tasks: TaskTracker::new(),
        });
        let (renewed, stop) = (agent.clone(), agent.surroundings.stop.clone());
        agent.tasks.spawn(async move { stop.run_until_cancelled(renewed.drop_former_identities()).await });
        let watcher = agent.clone();
        agent.tasks.spawn(async move {
            while AssertUnwindSafe(watcher.watch()).catch_unwind().await.is_err() {
                tracing::error!(instance = %watcher.instance, "the driver panicked; watching goes on");
                tokio::time::sleep(watcher.surroundings.settings.observe_every).await;
            }
        });
        agent
    }

    /// Begins a job, or joins the one of the same key, and tells what has become of it.
    pub(super) async fn begin(self: &Arc<Self>, operation: OperationId, epoch: u64, work: Work) -> Result<JobEnd> {
        let (key, told, made) = ((operation, work.name().to_owned()), format!("{work:?}"), Became::by(&work));
        let cancel = self.surroundings.stop.child_token();
        {
            let mut known = self.notes.known();
            known.fence(epoch)?;
            if let Some(joined) = known.join(&key, &told)? {
                return joined;
            }
            self.mending.lock().unwrap_or_else(PoisonError::into_inner).cancel();
            known.begin(key.clone(), told, cancel.clone());
        }
        let agent = self.clone();
        let cx = Cx::new(operation, epoch).with_step(work.name()).with_cancel(cancel).with_progress(Arc::new(
            move |progress| {
                agent.surroundings.notifier.notify(message::write(&Notice::Progress { operation, progress }))
            },
        ));
        let agent = self.clone();
        self.tasks.spawn(async move {
            let result = AssertUnwindSafe(agent.work(&cx, work)).catch_unwind().await;
            let result = result.unwrap_or_else(|_| Err(Error::internal("the guest's job was lost: it panicked")));
            agent.look.notify_one();
            agent.notes.known().end(&key, result, made);
            // Where it cannot be written down, and is forgotten, the job is done again.
            agent.keep_notes().await;
            agent.notes.known().kept(&key);
            agent.surroundings.notifier.notify(message::write(&Notice::JobEnded));
        });
        Ok(JobEnd::Running)
    }

    /// What has become of a job that was begun.
    pub(super) fn end(&self, operation: OperationId, work: &str) -> Option<Result<JobEnd>> {
        self.notes.known().ended(&(operation, work.to_owned()))
    }

    async fn keep_notes(&self) {
        if let Err(error) = self.notes.keep().await {
            tracing::error!(instance = %self.instance, error = error.report(), "the agent may forget");
        }
    }

    /// Takes others too, for itself and whoever is the agent after it.
    async fn renew(&self, identity: GuestIdentity) -> Result<()> {
        self.notes.known().identities.insert(identity);
        self.notes.keep().await?;
        self.apply_identities();
        Ok(())
    }

    /// Drops what the control plane does not use any more.
    async fn drop_former_identities(&self) {
        let mut number = 0;
        loop {
            number = self.surroundings.keys.activated_above(number).await;
            self.notes.known().identities.remove_before(number);
            self.keep_notes().await;
            self.apply_identities();
        }
    }

    fn apply_identities(&self) {
        let Surroundings { keys, transport, .. } = &self.surroundings;
        self.notes.known().identities.apply(keys, &**transport);
    }

    async fn work(&self, cx: &Cx, work: Work) -> Result<()> {
        let work = match work {
            Work::Renew(identity) => return self.renew(identity).await,
            work => work,
        };
        let _server = self.server.write().await;
        cx.check()?;
        match work {
            Work::Prepare(spec) => {
                self.datastore.prepare(cx, &spec).await?;
                self.intend(Intent::Run).await?;
            }
            Work::Start => {
                self.intend(Intent::Run).await?;
                self.datastore.start(cx).await?;
            }
            Work::Stop => {
                self.intend(Intent::Stop).await?;
                self.datastore.stop(cx).await?;
            }
            Work::Restart => {
                self.datastore.stop(cx).await?;
                self.intend(Intent::Run).await?;
                self.datastore.start(cx).await?;
            }
            Work::Remove => {
                self.intend(Intent::None).await?;
                return self.datastore.remove(cx).await;
            }
            Work::Configure(settings) => {
                // An agent that was attached in the middle of this does not know yet what it is to do.
                self.intend(Intent::Run).await?;
                self.configuration()?.apply(cx, &settings).await?;
            }
            Work::RestoreSettings(settings) => {
                self.intend(Intent::Run).await?;
                // Without parameters there was nothing to change either.
                if let Some(configuration) = self.datastore.configuration() {
                    configuration.apply(cx, &settings).await?;
                }
            }
            Work::Resize(flavor) => {
                let resize = self.datastore.resize().ok_or_else(|| lacks("other flavors"))?;
                // Until it serves again nobody but the operation starts it: which size it is to have is open.
                self.intend(Intent::None).await?;
                resize.resize(cx, &flavor).await?;
                self.intend(Intent::Run).await?;
            }
            Work::RevertResize(flavor) => {
                if let Some(resize) = self.datastore.resize() {
                    resize.resize(cx, &flavor).await?;
                }
                self.intend(Intent::Run).await?;
            }
            // It does not touch the server.
            Work::Renew(_) => {}
            Work::CheckUpgrade(to) => return self.upgrade()?.check(cx, &to).await,
            Work::KeepRunning => self.intend(Intent::Run).await?,
            Work::Upgrade(to) => {
                let upgrade = self.upgrade()?;
                self.intend(Intent::None).await?;
                upgrade.upgrade(cx, &to).await?;
                self.intend(Intent::Run).await?;
            }
            Work::RevertUpgrade(from) => {
                let upgrade = self.upgrade()?;
                self.intend(Intent::None).await?;
                upgrade.revert(cx, &from).await?;
                self.intend(Intent::Run).await?;
            }
            Work::ConcludeUpgrade => {
                self.intend(Intent::Run).await?;
                self.upgrade()?.conclude(cx).await?;
            }
        }
        // What the caller hears as done it was told of before, unless it is away.
        let told = message::write(&Notice::Seen { observed: self.observe().await, settled: true });
        let _ = tokio::time::timeout(TOLD_PATIENCE, self.surroundings.notifier.notify_and_flush(told)).await;
        Ok(())
    }

    fn configuration(&self) -> Result<&dyn Configuration> {
        self.datastore.configuration().ok_or_else(|| lacks("parameters"))
    }

    fn upgrade(&self) -> Result<&dyn Upgrade> {
        self.datastore.upgrade().ok_or_else(|| lacks("upgrades"))
    }

    /// The context of a call that changes nothing.
    fn look_context(&self) -> Cx {
        Cx::new(OperationId::new_v4(), self.epoch()).with_cancel(self.surroundings.stop.child_token())
    }

    /// Answers a question about accounts, or changes them.
    pub(super) async fn accounts(
        &self,
        operation: OperationId,
        epoch: u64,
        question: AccountsCall,
    ) -> Result<AccountsReply> {
        self.notes.known().fence(epoch)?;
        let accounts = self.datastore.accounts();
        let accounts = accounts.ok_or_else(|| Error::unsupported("this datastore has no databases and users"))?;
        let _server = self.server.try_read().map_err(|_| Error::busy("the server is being changed"))?;
        let cx = Cx::new(operation, epoch).with_cancel(self.surroundings.stop.child_token());
        question.answer(accounts, &cx).await
    }

    /// Lets running jobs know, awaits them, and stops watching. The server goes on.
    pub(super) async fn shut_down(&self) {
        self.surroundings.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Says what is to become of the server, to whoever is the agent after this one too.
    async fn intend(&self, intent: Intent) -> Result<()> {
        self.notes.known().intent = intent;
        self.notes.keep().await
    }

    fn intent(&self) -> Intent {
        self.notes.known().intent
    }

    fn epoch(&self) -> u64 {
        self.notes.known().epoch
    }

    /// Looks at the server, mends it where that is safe, and reports, until shut down.
    async fn watch(&self) {
        let mut healer = Healer::default();
        let mut start_failure: Option<String> = None;
        let mut last: Option<(Observed, Instant)> = None;
        while !self.surroundings.stop.is_cancelled() {
            let intent = self.intent();
            if intent != Intent::None {
                let mut observed = self.observe().await;
                if self.surroundings.stop.is_cancelled() {
                    // Looking was broken off; what was seen is not what is.
                    return;
                }
                match observed.health {
                    Health::Healthy => {
                        healer.serving(Instant::now());
                        start_failure = None;
                    }
                    Health::Down(ref mut problem) => {
                        if let Some(failure) = &start_failure {
                            problem.message = format!("{}; starting it again failed: {failure}", problem.message);
                        }
                    }
                    _ => {}
                }
                let stale = last.as_ref().is_none_or(|(last, at)| {
                    *last != observed || at.elapsed() >= self.surroundings.settings.report_every
                });
                if stale && self.intent() == intent {
                    last = Some((observed.clone(), Instant::now()));
                    let seen = Notice::Seen { observed: observed.clone(), settled: false };
                    self.surroundings.notifier.notify(message::write(&seen));
                }
                if self.mend(intent, &observed.health, &mut healer, &mut start_failure).await {
                    continue;
                }
            }
            tokio::select! {
                () = self.surroundings.stop.cancelled() => {}
                () = self.look.notified() => {}
                () = self.datastore.changed() => {}
                () = tokio::time::sleep(self.surroundings.settings.observe_every) => {}
            }
        }
    }

    /// True where something was done, so that the server is worth another look at once.
    async fn mend(&self, intent: Intent, health: &Health, healer: &mut Healer, failure: &mut Option<String>) -> bool {
        let remedy = healer.remedy(intent == Intent::Run, health, Instant::now());
        if remedy == Remedy::Leave {
            return false;
        }
        let cancel = self.surroundings.stop.child_token();
        *self.mending.lock().unwrap_or_else(PoisonError::into_inner) = cancel.clone();
        // A job that changes the server has it; whatever is wrong is that job's to mend.
        let Ok(_server) = self.server.try_write() else { return false };
        if self.intent() != intent {
            return true;
        }
        healer.acting(Instant::now());
        let cx = Cx::new(OperationId::new_v4(), self.epoch()).with_cancel(cancel);
        let result = match remedy {
            Remedy::Leave => return false,
            Remedy::Stop => self.datastore.stop(&cx).await,
            Remedy::Start => {
                tracing::warn!(instance = %self.instance, ?health, "starting the server again");
                self.datastore.start(&cx).await
            }
        };
        match result {
            Ok(()) => true,
            Err(error) if error.kind() == Kind::Cancelled => false,
            Err(error) => {
                tracing::warn!(instance = %self.instance, error = error.report(), "the server could not be mended");
                *failure = Some(error.to_string());
                false
            }
        }
    }

    async fn observe(&self) -> Observed {
        let cx = self.look_context();
        let mut observed = self.datastore.observe(&cx).await.unwrap_or_else(|error| {
            let late = error.kind() == Kind::Timeout;
            let condition = if late { Condition::NotAnswering } else { Condition::RuntimeUnavailable };
            Observed::new(Health::Unknown(Problem::new(condition, error.to_string())))
        });
        if matches!(observed.health, Health::Down(_)) {
            if self.intent() == Intent::Stop {
                observed.health = Health::Stopped;
            } else if self.server.try_read().is_err() {
                // A job has the server down on its way up; if it fails, the next look tells.
                observed.health = Health::Starting;
            }
        }
        observed
    }
}

fn lacks(what: &str) -> Error {
    Error::unsupported(format!("this datastore has no {what}"))
}
