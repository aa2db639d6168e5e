//! The agent of one instance: runs jobs, serves account calls, monitors its server and restarts it.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, RwLock},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    agent_state::{AgentStateStore, AppliedChanges, Intent},
    identity::GuestIdentity,
    message::{self, Notice},
    protocol::{AccountsCall, AccountsReply, Job, JobStatus},
    restart_policy::{RestartAction, RestartPolicy},
    sanitize::sanitize_observed,
};
use crate::{
    datastore::{Abilities, Cx, Datastore},
    error::{Error, Kind, Result},
    id::{InstanceId, OperationId},
    layer::{Deadline, Layered, Trace},
    model::{Condition, Health, Observed, Problem},
    rpc::{KeyRing, Notifier, Transport},
};

/// How long a job that succeeded waits until its final observation is sent to the control plane.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a call of the driver may take to end when the agent is shut down.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// The part of the used or free space, as 1 / `DISK_CHANGE_FRACTION`, whose change is reported at once.
const DISK_CHANGE_FRACTION: u64 = 20;

/// The age at which the control plane does not rely on a report any more.
pub(crate) const REPORT_EXPIRES: Duration = Duration::from_secs(90);

/// Intervals of a guest agent.
#[derive(Clone, Copy, Debug)]
pub struct AgentSettings {
    /// The interval between observations of the server. The agent also observes the server whenever
    /// the driver signals a change. Default: 2 s.
    pub observe_every: Duration,
    /// The interval between reports while nothing changes. A report about a change is sent at once.
    /// Must be less than the 90 s after which a report expires. Default: 30 s.
    pub report_every: Duration,
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self { observe_every: Duration::from_secs(2), report_every: Duration::from_secs(30) }
    }
}

impl AgentSettings {
    /// Returns [`Invalid`](Kind::Invalid) if reports would expire before the next ones.
    pub(crate) fn check(&self) -> Result<()> {
        if self.report_every < REPORT_EXPIRES {
            return Ok(());
        }
        let (every, expires) = (self.report_every, REPORT_EXPIRES);
        Err(Error::invalid(format!("guests cannot report every {every:?}, because reports expire after {expires:?}")))
    }
}

/// Manages the server of one instance.
pub(super) struct Agent {
    instance: InstanceId,
    datastore: Arc<dyn Datastore>,
    context: AgentContext,
    state: AgentStateStore,
    // Write-locked by changes of the server, read-locked by account calls.
    server: RwLock<()>,
    // Cancelled when a job starts, so that it does not wait for a restart.
    restart: Mutex<CancellationToken>,
    observe_now: Notify,
    tasks: TaskTracker,
}

/// The environment of an agent, apart from its datastore and state.
pub(super) struct AgentContext {
    pub(super) settings: AgentSettings,
    pub(super) notifier: Notifier,
    pub(super) keys: KeyRing,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) stop: CancellationToken,
}

impl Agent {
    /// Starts an agent, which then monitors its server. [`Deadline`] limits calls to the datastore,
    /// and [`Trace`] logs them.
    pub(super) fn spawn(
        instance: InstanceId,
        datastore: Arc<dyn Datastore>,
        state: AgentStateStore,
        context: AgentContext,
    ) -> Arc<Self> {
        let limited = Arc::new(Layered::new(Deadline::default(), datastore));
        let agent = Arc::new(Self {
            instance,
            datastore: Arc::new(Layered::new(Trace::new(instance), limited)),
            context,
            state,
            server: RwLock::new(()),
            restart: Mutex::default(),
            observe_now: Notify::new(),
            tasks: TaskTracker::new(),
        });
        let (cleaner, stop) = (agent.clone(), agent.context.stop.clone());
        agent.tasks.spawn(async move { stop.run_until_cancelled(cleaner.drop_retired_identities()).await });
        let monitor = agent.clone();
        agent.tasks.spawn(async move {
            let monitored = async {
                while AssertUnwindSafe(monitor.monitor()).catch_unwind().await.is_err() {
                    tracing::error!(instance = %monitor.instance, "driver panicked while monitoring");
                    tokio::time::sleep(monitor.context.settings.observe_every).await;
                }
            };
            tokio::select! {
                () = monitored => {}
                () = monitor.shutdown_overdue() => {}
            }
        });
        agent
    }

    /// Starts a job, or joins the job with the same key, and returns its status.
    pub(super) async fn start_job(self: &Arc<Self>, operation: OperationId, epoch: u64, job: Job) -> Result<JobStatus> {
        let (key, arguments) = ((operation, job.name().to_owned()), format!("{job:?}"));
        let changes = AppliedChanges::of(&job);
        let cancel = self.context.stop.child_token();
        {
            let mut state = self.state.state();
            state.fence(epoch)?;
            if let Some(status) = state.join(&key, &arguments)? {
                return status;
            }
            self.restart.lock().cancel();
            state.start(key.clone(), arguments, cancel.clone());
        }
        let agent = self.clone();
        let cx = Cx::new(operation, epoch).with_step(job.name()).with_cancel(cancel).with_progress(Arc::new(
            move |progress| agent.context.notifier.notify(message::write(&Notice::Progress { operation, progress })),
        ));
        let agent = self.clone();
        self.tasks.spawn(async move {
            let result = tokio::select! {
                result = AssertUnwindSafe(agent.run_job(&cx, job)).catch_unwind() => {
                    result.unwrap_or_else(|_| Err(Error::internal("the job panicked")))
                }
                // Dropping a call is allowed at any time, and is tried last because cancelling it is cleaner.
                () = agent.shutdown_overdue() => Err(Error::cancelled("the agent was shut down")),
            };
            agent.observe_now.notify_one();
            agent.state.state().finish(&key, result, changes);
            // If this fails and the agent restarts, the job runs again.
            agent.persist_state().await;
            agent.state.state().mark_persisted(&key);
            agent.context.notifier.notify(message::write(&Notice::JobEnded));
        });
        Ok(JobStatus::Running)
    }

    /// Returns the status of a job, or `None` if the job is unknown.
    pub(super) fn job_status(&self, operation: OperationId, name: &str) -> Option<Result<JobStatus>> {
        self.state.state().job_status(&(operation, name.to_owned()))
    }

    async fn persist_state(&self) {
        if let Err(error) = self.state.persist().await {
            tracing::error!(instance = %self.instance, error = error.report(), "failed to persist agent state");
        }
    }

    /// Adds an identity, and persists it for the next process of this agent.
    async fn add_identity(&self, identity: GuestIdentity) -> Result<()> {
        self.state.state().identities.insert(identity);
        self.state.persist().await?;
        self.apply_identities();
        Ok(())
    }

    /// Drops identities once the control plane uses a newer one.
    async fn drop_retired_identities(&self) {
        let mut number = 0;
        loop {
            number = self.context.keys.activated_above(number).await;
            self.state.state().identities.remove_before(number);
            self.persist_state().await;
            self.apply_identities();
        }
    }

    fn apply_identities(&self) {
        let AgentContext { keys, transport, .. } = &self.context;
        self.state.state().identities.apply(keys, &**transport);
    }

    async fn run_job(&self, cx: &Cx, job: Job) -> Result<()> {
        let job = match job {
            Job::AddIdentity(identity) => return self.add_identity(identity).await,
            job => job,
        };
        let _server = self.server.write().await;
        cx.check()?;
        let Abilities { accounts: _, configuration, upgrade, resize } = self.datastore.abilities();
        let upgrade = || upgrade.ok_or_else(|| unsupported("upgrades"));
        match job {
            Job::Prepare(spec) => {
                self.datastore.prepare(cx, &spec).await?;
                self.set_intent(Intent::Run).await?;
            }
            Job::Start => {
                self.set_intent(Intent::Run).await?;
                self.datastore.start(cx).await?;
            }
            Job::Stop => {
                self.set_intent(Intent::Stop).await?;
                self.datastore.stop(cx).await?;
            }
            Job::Restart => {
                self.datastore.stop(cx).await?;
                self.set_intent(Intent::Run).await?;
                self.datastore.start(cx).await?;
            }
            Job::Remove => {
                self.set_intent(Intent::None).await?;
                return self.datastore.remove(cx).await;
            }
            Job::Configure(settings) => {
                // The intent of an agent that was attached during this operation is unset.
                self.set_intent(Intent::Run).await?;
                configuration.ok_or_else(|| unsupported("parameters"))?.apply(cx, &settings).await?;
            }
            Job::RestoreSettings(settings) => {
                self.set_intent(Intent::Run).await?;
                // A datastore without parameters cannot have been configured.
                if let Some(configuration) = configuration {
                    configuration.apply(cx, &settings).await?;
                }
            }
            Job::Resize(flavor) => {
                let resize = resize.ok_or_else(|| unsupported("resizing"))?;
                // Until the new size is final, only the operation may start the server.
                self.set_intent(Intent::None).await?;
                resize.resize(cx, &flavor).await?;
                self.set_intent(Intent::Run).await?;
            }
            Job::RevertResize(flavor) => {
                if let Some(resize) = resize {
                    resize.resize(cx, &flavor).await?;
                }
                self.set_intent(Intent::Run).await?;
            }
            // Handled above.
            Job::AddIdentity(_) => {}
            Job::CheckUpgrade(to) => return upgrade()?.check(cx, &to).await,
            Job::KeepRunning => self.set_intent(Intent::Run).await?,
            Job::Upgrade(to) => {
                let upgrade = upgrade()?;
                self.set_intent(Intent::None).await?;
                upgrade.upgrade(cx, &to).await?;
                self.set_intent(Intent::Run).await?;
            }
            Job::RevertUpgrade(from) => {
                let upgrade = upgrade()?;
                self.set_intent(Intent::None).await?;
                upgrade.revert(cx, &from).await?;
                self.set_intent(Intent::Run).await?;
            }
            Job::CommitUpgrade => {
                self.set_intent(Intent::Run).await?;
                upgrade()?.commit(cx).await?;
            }
        }
        // The control plane must store the outcome before it sees the job as done, unless it is unreachable.
        let notice = message::write(&Notice::Observed { observed: self.observe().await, settled: true });
        let _ = tokio::time::timeout(REPORT_TIMEOUT, self.context.notifier.notify_and_flush(notice)).await;
        Ok(())
    }

    /// Returns the context of a call that changes nothing.
    fn read_context(&self) -> Cx {
        Cx::new(OperationId::new_v4(), self.epoch()).with_cancel(self.context.stop.child_token())
    }

    /// Executes an account call.
    pub(super) async fn accounts(
        &self,
        operation: OperationId,
        epoch: u64,
        call: AccountsCall,
    ) -> Result<AccountsReply> {
        self.state.state().fence(epoch)?;
        let accounts = self.datastore.abilities().accounts;
        let accounts =
            accounts.ok_or_else(|| Error::unsupported("this datastore does not support databases and users"))?;
        let _server = self.server.try_read().map_err(|_| Error::busy("the server is being changed"))?;
        let cx = Cx::new(operation, epoch).with_cancel(self.context.stop.child_token());
        call.execute(accounts, &cx).await
    }

    /// Cancels running jobs, awaits their end and stops monitoring. The server keeps running.
    pub(super) async fn shut_down(&self) {
        self.context.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Sets and persists the intent.
    async fn set_intent(&self, intent: Intent) -> Result<()> {
        self.state.state().intent = intent;
        self.state.persist().await
    }

    fn intent(&self) -> Intent {
        self.state.state().intent
    }

    fn epoch(&self) -> u64 {
        self.state.state().epoch
    }

    /// Completes when calls of the driver have ignored for too long that the agent is shut down.
    async fn shutdown_overdue(&self) {
        self.context.stop.cancelled().await;
        tokio::time::sleep(SHUTDOWN_GRACE).await;
    }

    /// Observes the server, reports, and restarts the server if that is safe, until shut down.
    async fn monitor(&self) {
        let mut policy = RestartPolicy::default();
        let mut start_failure: Option<String> = None;
        let mut last: Option<(Observed, Instant)> = None;
        let mut replacements = self.context.notifier.replacements();
        while !self.context.stop.is_cancelled() {
            let intent = self.intent();
            if intent != Intent::None {
                let mut observed = self.observe().await;
                if self.context.stop.is_cancelled() {
                    // The observation was cancelled and is invalid.
                    return;
                }
                match observed.health {
                    Health::Healthy => {
                        policy.record_healthy(Instant::now());
                        start_failure = None;
                    }
                    Health::Down(ref mut problem) => {
                        if let Some(failure) = &start_failure {
                            problem.message = format!("{}; restarting it failed: {failure}", problem.message);
                        }
                    }
                    _ => {}
                }
                let stale = last.as_ref().is_none_or(|(last, at)| {
                    has_changed(last, &observed) || at.elapsed() >= self.context.settings.report_every
                });
                let stale = stale || replacements.has_changed().unwrap_or(false);
                if stale && self.intent() == intent {
                    replacements.mark_unchanged();
                    last = Some((observed.clone(), Instant::now()));
                    let notice = Notice::Observed { observed: observed.clone(), settled: false };
                    self.context.notifier.notify(message::write(&notice));
                }
                if self.apply_restart_policy(intent, &observed.health, &mut policy, &mut start_failure).await {
                    continue;
                }
            }
            tokio::select! {
                () = self.context.stop.cancelled() => {}
                () = self.observe_now.notified() => {}
                () = self.datastore.changed() => {}
                () = tokio::time::sleep(self.context.settings.observe_every) => {}
            }
        }
    }

    /// Starts or stops the server according to the restart policy. Returns true if the server
    /// should be observed again at once.
    async fn apply_restart_policy(
        &self,
        intent: Intent,
        health: &Health,
        policy: &mut RestartPolicy,
        failure: &mut Option<String>,
    ) -> bool {
        let action = policy.action(intent == Intent::Run, health, Instant::now());
        if action == RestartAction::None {
            return false;
        }
        let cancel = self.context.stop.child_token();
        *self.restart.lock() = cancel.clone();
        // A job that changes the server is responsible for its state.
        let Ok(_server) = self.server.try_write() else { return false };
        if self.intent() != intent {
            return true;
        }
        policy.record_action(Instant::now());
        let cx = Cx::new(OperationId::new_v4(), self.epoch()).with_cancel(cancel);
        let result = match action {
            RestartAction::None => return false,
            RestartAction::Stop => self.datastore.stop(&cx).await,
            RestartAction::Start => {
                tracing::warn!(instance = %self.instance, ?health, "restarting the server");
                self.datastore.start(&cx).await
            }
        };
        match result {
            Ok(()) => true,
            Err(error) if error.kind() == Kind::Cancelled => false,
            Err(error) => {
                tracing::warn!(instance = %self.instance, error = error.report(), "failed to restart or stop the server");
                *failure = Some(error.to_string());
                false
            }
        }
    }

    async fn observe(&self) -> Observed {
        let cx = self.read_context();
        let mut observed = self.datastore.observe(&cx).await.unwrap_or_else(|error| {
            let timed_out = error.kind() == Kind::Timeout;
            let condition = if timed_out { Condition::NotAnswering } else { Condition::RuntimeUnavailable };
            Observed::new(Health::Unknown(Problem::new(condition, error.to_string())))
        });
        if matches!(observed.health, Health::Down(_)) {
            if self.intent() == Intent::Stop {
                observed.health = Health::Stopped;
            } else if self.server.try_read().is_err() {
                // A job is restarting the server; if that fails, the next observation shows it.
                observed.health = Health::Starting;
            }
        }
        sanitize_observed(observed)
    }
}

/// Returns true if an observation differs enough from the reported one to be reported at once. The
/// disk usage of a busy server always differs a little.
fn has_changed(reported: &Observed, observed: &Observed) -> bool {
    let differs = |one: u64, other: u64| one.abs_diff(other) > one.max(other) / DISK_CHANGE_FRACTION;
    let disk_changed = match (&reported.disk, &observed.disk) {
        (None, None) => false,
        (Some(one), Some(other)) => {
            let used = one.used.zip(other.used).is_some_and(|(one, other)| differs(one.as_bytes(), other.as_bytes()));
            used || differs(one.free.as_bytes(), other.free.as_bytes())
        }
        (Some(_), None) | (None, Some(_)) => true,
    };
    let Observed { health, server_version, disk: _, settings } = observed;
    disk_changed
        || (&reported.health, &reported.server_version, &reported.settings) != (health, server_version, settings)
}

fn unsupported(ability: &str) -> Error {
    Error::unsupported(format!("this datastore does not support {ability}"))
}
