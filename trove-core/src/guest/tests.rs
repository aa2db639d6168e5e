//! The agent with a driver that misbehaves as told.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::{Notify, mpsc};
#[cfg(feature = "amqp")]
use tokio_util::sync::CancellationToken;

use super::{AccountsCall, Call, GuestIdentity, Guests, JobEnd, Settings, Telling, Work};
#[cfg(feature = "amqp")]
use super::{
    agent::{Agent, Surroundings},
    identity::GuestIdentities,
    notes::Notes,
};
#[cfg(feature = "amqp")]
use crate::rpc::{KeyRing, Notifier};
use crate::{
    datastore::{Cx, Datastore, Driver, GuestHost, Manifest, Prepare, Version},
    error::{Error, Kind, Result},
    id::{InstanceId, OperationId},
    model::{ByteSize, Flavor, Health, Instance, Observed},
    platform::Placement,
    rpc::InProcess,
    time::{Clock, Timestamp},
};

/// Prepares until cancelled, and panics at its first removal.
struct Odd {
    manifest: Manifest,
    preparing: Arc<Notify>,
    removals: Arc<AtomicUsize>,
}

struct OddDatastore {
    preparing: Arc<Notify>,
    removals: Arc<AtomicUsize>,
}

impl Driver for Odd {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn attach(&self, _host: GuestHost) -> Result<Arc<dyn Datastore>> {
        Ok(Arc::new(OddDatastore { preparing: self.preparing.clone(), removals: self.removals.clone() }))
    }
}

#[async_trait]
impl Datastore for OddDatastore {
    async fn prepare(&self, cx: &Cx, _spec: &Prepare) -> Result<()> {
        self.preparing.notify_one();
        cx.cancelled().await;
        Err(Error::cancelled("told to stop"))
    }

    async fn start(&self, _cx: &Cx) -> Result<()> {
        Ok(())
    }

    async fn stop(&self, _cx: &Cx) -> Result<()> {
        Ok(())
    }

    async fn remove(&self, _cx: &Cx) -> Result<()> {
        assert!(self.removals.fetch_add(1, Ordering::Relaxed) > 0, "the first removal panics");
        Ok(())
    }

    async fn observe(&self, _cx: &Cx) -> Result<Observed> {
        Ok(Observed::new(Health::Healthy))
    }
}

struct Fixture {
    guests: Guests,
    instance: InstanceId,
    preparing: Arc<Notify>,
    removals: Arc<AtomicUsize>,
    _reports: mpsc::Receiver<Telling>,
}

impl Fixture {
    async fn new() -> Self {
        let (preparing, removals) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let manifest = Manifest::new("odd", Version::new("1", "odd:1"), 1);
        let driver: Arc<dyn Driver> =
            Arc::new(Odd { manifest, preparing: preparing.clone(), removals: removals.clone() });
        let (sender, reports) = mpsc::channel(64);
        let drivers = HashMap::from([("odd".to_owned(), driver)]);
        let guests = Guests::new(drivers, Arc::new(InProcess::new()), Settings::default(), Clock::system(), sender);
        let flavor = Flavor::new("small", ByteSize::default(), 1);
        let id = InstanceId::new_v4();
        let instance = Instance::new(id, "x", "odd", flavor, ByteSize::default(), Timestamp::UNIX_EPOCH);
        let identity = GuestIdentity::generate(id, 1).unwrap();
        let access = guests.admit(id, &identity).await.unwrap();
        let host = GuestHost::new(id, "/nonexistent", "/nonexistent");
        let placement = Placement::InProcess(Box::new(host));
        guests.attach(&instance, &identity, &access, placement, None).await.unwrap();
        Self { guests, instance: id, preparing, removals, _reports: reports }
    }

    async fn job(&self, epoch: u64, work: Work) -> Result<JobEnd> {
        let call = Call { operation: OperationId::new_v4(), epoch, progress: None };
        self.repeat(&call, work).await
    }

    async fn repeat(&self, call: &Call, work: Work) -> Result<JobEnd> {
        self.guests.job(self.instance, call, work, Duration::from_secs(30), std::future::pending()).await
    }
}

#[tokio::test]
async fn a_removal_ends_what_runs_and_survives_a_panic() {
    let fixture = Fixture::new().await;
    let prepare = fixture.job(1, Work::Prepare(Prepare::default()));
    let remove = async {
        fixture.preparing.notified().await;
        let call = Call { operation: OperationId::new_v4(), epoch: 2, progress: None };
        let first = fixture.repeat(&call, Work::Remove).await.unwrap_err();
        assert_eq!(first.kind(), Kind::Internal, "the driver panicked");
        // The same operation asks again, and is not told of the job that died.
        assert_eq!(fixture.repeat(&call, Work::Remove).await.unwrap(), JobEnd::Done);
        assert_eq!(fixture.repeat(&call, Work::Remove).await.unwrap(), JobEnd::Done);
        assert_eq!(fixture.removals.load(Ordering::Relaxed), 2, "a job that is done is not done again");
    };
    let (prepared, ()) = tokio::join!(prepare, remove);
    assert_eq!(prepared.unwrap_err().kind(), Kind::Cancelled);
    fixture.guests.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_former_owner_is_refused() {
    let fixture = Fixture::new().await;
    fixture.job(5, Work::Start).await.unwrap();
    assert_eq!(fixture.job(4, Work::Stop).await.unwrap_err().kind(), Kind::Fenced);
    let call = Call { operation: OperationId::new_v4(), epoch: 4, progress: None };
    let error = fixture.guests.accounts(fixture.instance, call, AccountsCall::RootEnabled).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Fenced);
    fixture.job(5, Work::Stop).await.unwrap();
    fixture.guests.shut_down().await;
}

/// An agent in this directory, as it is after each start of its process.
#[cfg(feature = "amqp")]
fn agent_in(directory: &std::path::Path, removals: &Arc<AtomicUsize>) -> Arc<Agent> {
    let instance = InstanceId::new_v4();
    let identities = GuestIdentities::new(GuestIdentity::generate(instance, 1).unwrap());
    let notes = Notes::kept_in(directory.join("agent.notes"), Some(true), 1, identities).unwrap();
    let datastore = Arc::new(OddDatastore { preparing: Arc::default(), removals: removals.clone() });
    let stop = CancellationToken::new();
    let (settings, notifier, keys) = (Settings::default(), Notifier::new(), KeyRing::default());
    let surroundings = Surroundings { settings, notifier, keys, transport: Arc::new(InProcess::new()), stop };
    Agent::spawn(instance, datastore, notes, surroundings)
}

#[cfg(feature = "amqp")]
#[tokio::test]
async fn a_job_is_joined_by_the_next_agent_where_it_was_done_and_done_where_it_was_not() {
    let (directory, removals) = (tempfile::tempdir().unwrap(), Arc::new(AtomicUsize::new(1)));
    let (done, broken_off) = (OperationId::new_v4(), OperationId::new_v4());
    let agent = agent_in(directory.path(), &removals);
    while agent.begin(done, 3, Work::Remove).await.unwrap() == JobEnd::Running {
        tokio::task::yield_now().await;
    }
    assert_eq!(agent.begin(broken_off, 3, Work::Prepare(Prepare::default())).await.unwrap(), JobEnd::Running);
    drop(agent);

    let agent = agent_in(directory.path(), &removals);
    assert_eq!(agent.begin(done, 3, Work::Remove).await.unwrap(), JobEnd::Done);
    assert_eq!(removals.load(Ordering::Relaxed), 2, "it is not done again");
    assert!(agent.end(broken_off, "prepare").is_none(), "nobody does it");
    assert_eq!(agent.begin(broken_off, 3, Work::Prepare(Prepare::default())).await.unwrap(), JobEnd::Running);
    assert_eq!(agent.begin(OperationId::new_v4(), 2, Work::Start).await.unwrap_err().kind(), Kind::Fenced);
    agent.shut_down().await;
}
