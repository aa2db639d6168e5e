//! The agent with a faulty driver.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    AccountsCall, AgentSettings, GuestIdentity, Job, JobStatus,
    agent::{Agent, AgentContext},
    agent_state::AgentStateStore,
    identity::GuestIdentities,
    request_handler::GuestRequestHandler,
};
use crate::{
    datastore::{Abilities, Cx, Datastore, Prepare},
    error::{Error, Kind, Result},
    id::{InstanceId, OperationId},
    model::{Health, Observed},
    rpc::{Address, DropCounters, InProcess, KeyRing, NotificationHandler, Notifier, RpcClient, RpcServer, Transport},
};

/// Prepares until cancelled, never ends a stop, and panics at its first removal.
#[derive(Clone, Default)]
struct FaultyDatastore {
    preparing: Arc<Notify>,
    removals: Arc<AtomicUsize>,
}

#[async_trait]
impl Datastore for FaultyDatastore {
    async fn prepare(&self, cx: &Cx, _spec: &Prepare) -> Result<()> {
        self.preparing.notify_one();
        cx.cancelled().await;
        Err(Error::cancelled("cancelled"))
    }

    async fn start(&self, _cx: &Cx) -> Result<()> {
        Ok(())
    }

    async fn stop(&self, _cx: &Cx) -> Result<()> {
        std::future::pending().await
    }

    async fn remove(&self, _cx: &Cx) -> Result<()> {
        assert!(self.removals.fetch_add(1, Ordering::Relaxed) > 0, "the first removal panics");
        Ok(())
    }

    async fn observe(&self, _cx: &Cx) -> Result<Observed> {
        Ok(Observed::new(Health::Healthy))
    }

    fn abilities(&self) -> Abilities<'_> {
        Abilities::default()
    }
}

/// Starts an agent; `load` creates its state.
fn start_agent(datastore: &FaultyDatastore, load: impl FnOnce(GuestIdentities) -> AgentStateStore) -> Arc<Agent> {
    let (instance, transport) = (InstanceId::new_v4(), InProcess::new());
    let identity = GuestIdentity::generate(instance, 1).unwrap();
    let (settings, stop) = (AgentSettings::default(), CancellationToken::new());
    let (keys, transport) = (KeyRing::new(identity.key.clone()), Arc::new(transport));
    let context = AgentContext { settings, notifier: Notifier::new(), keys, transport, stop };
    Agent::spawn(instance, Arc::new(datastore.clone()), load(GuestIdentities::new(identity)), context)
}

fn in_memory(identities: GuestIdentities) -> AgentStateStore {
    AgentStateStore::in_memory(Some(true), 1, identities)
}

/// Requests a job until it has ended.
async fn run(agent: &Arc<Agent>, operation: OperationId, epoch: u64, job: Job) -> Result<()> {
    while agent.start_job(operation, epoch, job.clone()).await? == JobStatus::Running {
        // Unlike yielding, sleeping lets a paused clock advance.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn removal_cancels_running_jobs_and_is_retried_after_a_panic() {
    let datastore = FaultyDatastore::default();
    let agent = start_agent(&datastore, in_memory);
    let (prepare, remove) = (OperationId::new_v4(), OperationId::new_v4());
    agent.start_job(prepare, 1, Job::Prepare(Prepare::default())).await.unwrap();
    datastore.preparing.notified().await;
    let panicked = run(&agent, remove, 2, Job::Remove).await.unwrap_err();
    assert_eq!(panicked.kind(), Kind::Internal);
    run(&agent, remove, 2, Job::Remove).await.unwrap();
    run(&agent, remove, 2, Job::Remove).await.unwrap();
    assert_eq!(datastore.removals.load(Ordering::Relaxed), 2, "a job that is done must not run again");
    assert_eq!(agent.job_status(prepare, "prepare").unwrap().unwrap_err().kind(), Kind::Cancelled);
    agent.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn callers_with_a_lower_epoch_are_rejected() {
    let agent = start_agent(&FaultyDatastore::default(), in_memory);
    run(&agent, OperationId::new_v4(), 5, Job::Start).await.unwrap();
    assert_eq!(run(&agent, OperationId::new_v4(), 4, Job::Start).await.unwrap_err().kind(), Kind::Fenced);
    let error = agent.accounts(OperationId::new_v4(), 4, AccountsCall::RootEnabled).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Fenced);
    run(&agent, OperationId::new_v4(), 5, Job::Start).await.unwrap();
    agent.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_ignores_its_cancellation_delays_a_shutdown_by_seconds_only() {
    let agent = start_agent(&FaultyDatastore::default(), in_memory);
    let running = agent.start_job(OperationId::new_v4(), 1, Job::Stop).await;
    assert_eq!(running.unwrap(), JobStatus::Running);
    let started = Instant::now();
    agent.shut_down().await;
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

#[cfg(feature = "amqp")]
#[tokio::test(start_paused = true)]
async fn restarted_agents_join_jobs_that_are_done_and_rerun_interrupted_ones() {
    let (directory, datastore) = (tempfile::tempdir().unwrap(), FaultyDatastore::default());
    datastore.removals.store(1, Ordering::Relaxed);
    let file = directory.path().join("agent.state");
    let persistent = |identities| AgentStateStore::load(file.clone(), Some(true), 1, identities).unwrap();
    let (done, interrupted) = (OperationId::new_v4(), OperationId::new_v4());
    let agent = start_agent(&datastore, persistent);
    run(&agent, done, 3, Job::Remove).await.unwrap();
    let running = agent.start_job(interrupted, 3, Job::Prepare(Prepare::default())).await;
    assert_eq!(running.unwrap(), JobStatus::Running);
    drop(agent);

    let agent = start_agent(&datastore, persistent);
    assert_eq!(agent.start_job(done, 3, Job::Remove).await.unwrap(), JobStatus::Done);
    assert_eq!(datastore.removals.load(Ordering::Relaxed), 2, "a job that is done must not run again");
    assert!(agent.job_status(interrupted, "prepare").is_none());
    let rerun = agent.start_job(interrupted, 3, Job::Prepare(Prepare::default())).await;
    assert_eq!(rerun.unwrap(), JobStatus::Running);
    assert_eq!(agent.start_job(OperationId::new_v4(), 2, Job::Start).await.unwrap_err().kind(), Kind::Fenced);
    agent.shut_down().await;
}

/// Signals notices.
#[derive(Default)]
struct NoticeSignal(Notify);

#[async_trait]
impl NotificationHandler for NoticeSignal {
    async fn handle(&self, _notice: &[u8]) {
        self.0.notify_one();
    }
}

#[tokio::test(start_paused = true)]
async fn a_restarted_control_plane_receives_a_report_although_nothing_changed() {
    let (instance, transport) = (InstanceId::new_v4(), Arc::new(InProcess::new()));
    for address in [Address::guest(instance), Address::control(instance)] {
        transport.create(&address).await.unwrap();
    }
    let (identity, stop) = (GuestIdentity::generate(instance, 1).unwrap(), CancellationToken::new());
    let (key, notifier) = (identity.key.clone(), Notifier::new());
    let context = AgentContext {
        settings: AgentSettings { report_every: Duration::MAX, ..AgentSettings::default() },
        notifier: notifier.clone(),
        keys: KeyRing::new(key.clone()),
        transport: transport.clone(),
        stop: stop.clone(),
    };
    let keys = context.keys.clone();
    let agent = Agent::spawn(
        instance,
        Arc::new(FaultyDatastore::default()),
        in_memory(GuestIdentities::new(identity)),
        context,
    );
    let handler = Arc::new(GuestRequestHandler(agent.clone()));
    let server = RpcServer::new(transport.clone(), instance, keys, handler, notifier, DropCounters::new()).unwrap();
    let serving = tokio::spawn(server.run(stop.clone()));
    for _ in 0..3 {
        let notices = Arc::new(NoticeSignal::default());
        let client = loop {
            let opened =
                RpcClient::open(transport.clone(), instance, key.clone(), notices.clone(), DropCounters::new()).await;
            match opened {
                Ok(client) => break client,
                // The queue of the previous control plane is closed in the background.
                Err(error) => assert_eq!(error.kind(), Kind::Conflict),
            }
            tokio::task::yield_now().await;
        };
        let reported = tokio::time::timeout(Duration::from_secs(600), notices.0.notified()).await;
        reported.expect("the agent does not report");
        drop(client);
    }
    agent.shut_down().await;
    stop.cancel();
    serving.await.unwrap().unwrap();
}
