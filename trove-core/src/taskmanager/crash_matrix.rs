//! Every flow, failing at every call before and after its effect, crossed with the death of its owner at every journal
//! write before and after it, and a take-over by another: it ends complete or with nothing left behind.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    ConfigureInstance, ControlPlane, CreateInstance, DeleteInstance, ResizeInstance, RestartServer, StartServer,
    StopServer, UpgradeInstance, registry,
};
use crate::{
    conductor,
    conformance::memory::{Verdict, World},
    datastore::Driver,
    error::{Error, Result},
    events::Events,
    flow::{Engine, Flow, Settings},
    guest::{self, Guests},
    id::{InstanceId, OperationId},
    lifecycle::State,
    model::{ByteSize, Flavor, GivenSettings, Instance, NewDatabase, NewUser, OperationStatus, mib},
    secret::MasterKey,
    store::{Admitted, Cancel, Entry, InstanceRelease, Journal, NewOperation, Record, Store},
    time::{Clock, Timestamp, elapsed},
};

/// A call that fails: which, whether after its effect, and whether for good or only once.
#[derive(Clone, Copy, Debug)]
struct Fault {
    call: usize,
    after: bool,
    lasting: bool,
}

/// Where the owner dies.
#[derive(Clone, Copy, Debug)]
enum Death {
    AtWrite { write: usize, after: bool },
    AtCall { call: usize, after: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Create,
    Delete,
    Restart,
    Stop,
    Start,
    Configure,
    Upgrade,
    Resize,
}

/// How a run went: how it ended, and how many calls and journal writes its first owner made.
struct Run {
    status: Option<OperationStatus>,
    calls: usize,
    writes: usize,
}

#[tokio::test]
async fn create_survives_everything() {
    matrix(Operation::Create).await;
}

#[tokio::test]
async fn delete_survives_everything() {
    matrix(Operation::Delete).await;
}

#[tokio::test]
async fn restart_survives_everything() {
    matrix(Operation::Restart).await;
}

#[tokio::test]
async fn stop_survives_everything() {
    matrix(Operation::Stop).await;
}

#[tokio::test]
async fn start_survives_everything() {
    matrix(Operation::Start).await;
}

#[tokio::test]
async fn configure_survives_everything() {
    matrix(Operation::Configure).await;
}

#[tokio::test]
async fn upgrade_survives_everything() {
    matrix(Operation::Upgrade).await;
}

#[tokio::test]
async fn resize_survives_everything() {
    matrix(Operation::Resize).await;
}

#[tokio::test]
async fn a_deletion_ends_a_creation_wherever_it_stands() {
    let store = Store::connect("sqlite::memory:").await.unwrap();
    let writes = Case::new(&store, Operation::Create).await.check(None, None).await.writes;
    for write in 0..writes {
        for after in [false, true] {
            let mut case = Case::new(&store, Operation::Create).await;
            case.deleted_at_death = true;
            case.run(None, Some(Death::AtWrite { write, after })).await;
            case.assert_gone(&format!("deleted at write {write}, after: {after}")).await;
        }
    }
}

async fn matrix(operation: Operation) {
    let store = Store::connect("sqlite::memory:").await.unwrap();
    let plain = Case::new(&store, operation).await.check(None, None).await;
    let mut cases = 0;
    // The last call of an upgrade only tidies up; whatever becomes of it, the upgrade was done.
    let calls = if operation == Operation::Upgrade { plain.calls - 1 } else { plain.calls };
    for fault in std::iter::once(None).chain(faults(calls).map(Some)) {
        let calm = Case::new(&store, operation).await.check(fault, None).await;
        // What follows in a long row of tries for the same thing is the same again.
        let (writes, calls) = (calm.writes.min(plain.writes + 12), calm.calls.min(plain.calls + 8));
        let at_writes = (0..writes).flat_map(|write| [false, true].map(|after| Death::AtWrite { write, after }));
        let at_calls = (0..calls).flat_map(|call| [false, true].map(|after| Death::AtCall { call, after }));
        for death in at_writes.chain(at_calls) {
            Case::new(&store, operation).await.check(fault, Some(death)).await;
            cases += 1;
        }
    }
    assert!(cases >= 30, "only {cases} cases for {operation:?}");
}

fn faults(calls: usize) -> impl Iterator<Item = Fault> {
    (0..calls).flat_map(|call| {
        [(false, false), (true, false), (false, true), (true, true)].map(|(after, lasting)| Fault {
            call,
            after,
            lasting,
        })
    })
}

/// One instance in one world, and the operation on it.
struct Case {
    operation: Operation,
    store: Store,
    world: World,
    clock: Clock,
    key: MasterKey,
    instance: InstanceId,
    id: OperationId,
    deleted_at_death: bool,
}

impl Case {
    async fn new(store: &Store, operation: Operation) -> Self {
        let case = Self {
            operation,
            store: store.clone(),
            world: World::new(),
            clock: Clock::manual(Timestamp::UNIX_EPOCH),
            key: MasterKey::generate().unwrap(),
            instance: InstanceId::new_v4(),
            id: OperationId::new_v4(),
            deleted_at_death: false,
        };
        if operation == Operation::Create {
            case.begin_creation(case.id).await;
            return case;
        }
        let create = OperationId::new_v4();
        case.begin_creation(create).await;
        case.settle(&case.boot(Arc::new(case.store.clone())), create).await;
        let mut from = State::Active;
        if operation == Operation::Start {
            let stop = OperationId::new_v4();
            case.begin(StopServer {}.begin(stop).unwrap(), (State::Active, State::Stopping)).await;
            case.settle(&case.boot(Arc::new(case.store.clone())), stop).await;
            from = State::Stopped;
        }
        let (row, to) = match operation {
            Operation::Create | Operation::Delete => (DeleteInstance {}.begin(case.id), State::Deleting),
            Operation::Restart => (RestartServer {}.begin(case.id), State::Restarting),
            Operation::Stop => (StopServer {}.begin(case.id), State::Stopping),
            Operation::Start => (StartServer {}.begin(case.id), State::Starting),
            Operation::Configure => {
                let settings = [("max_rows".to_owned(), 5.into()), ("cache_mib".to_owned(), 0.into())].into();
                let flow = ConfigureInstance::new(GivenSettings { group: None, settings });
                (flow.begin(case.id), State::Configuring)
            }
            Operation::Upgrade => {
                let (version, number, image) = ("2".to_owned(), "2".to_owned(), "memory:2".to_owned());
                let flow = UpgradeInstance::new(InstanceRelease { version, number, image });
                (flow.begin(case.id), State::Upgrading)
            }
            Operation::Resize => {
                (ResizeInstance::new(Flavor::new("large", mib(64), 2)).begin(case.id), State::Resizing)
            }
        };
        case.begin(row.unwrap(), (from, to)).await;
        case
    }

    /// Runs the operation and asserts that it ended as it must.
    async fn check(mut self, fault: Option<Fault>, death: Option<Death>) -> Run {
        let what = format!("{:?}, {fault:?}, {death:?}", self.operation);
        let run = self.run(fault, death).await;
        let lasting = fault.is_some_and(|fault| fault.lasting);
        // A death may make the numbering of calls miss the one that was to fail.
        let may_succeed = !lasting || death.is_some();
        match (run.status, self.operation) {
            (None, Operation::Delete) => {}
            (Some(OperationStatus::Succeeded), _) => assert!(may_succeed, "{what}: succeeded"),
            (Some(OperationStatus::Failed), _) => assert!(lasting, "{what}: failed"),
            (status, _) => panic!("{what}: ended {status:?}"),
        }
        self.assert_true_to(run.status, &what).await;
        self.delete(&what).await;
        run
    }

    /// What the instance is said to be, it is.
    async fn assert_true_to(&self, status: Option<OperationStatus>, what: &str) {
        let Some(instance) = self.store.instance(self.instance).await.unwrap() else {
            assert_eq!(status, None, "{what}: the instance is gone");
            return;
        };
        match instance.state {
            State::Active => {
                let serves = self.world.serves(self.instance, &["app"], &["app"]);
                // After a failed restart the agent goes on; whether it serves is a matter of health.
                let restart_failed = self.operation == Operation::Restart && status == Some(OperationStatus::Failed);
                assert!(serves || restart_failed, "{what}: active and does not serve");
                let shape = (instance.image, instance.flavor.memory);
                assert_eq!(self.world.shape(self.instance), Some(shape), "{what}: it has another shape");
                assert_eq!(self.world.settings(self.instance), instance.given.settings, "{what}: other settings");
                let done = status == Some(OperationStatus::Succeeded);
                let changed = match self.operation {
                    Operation::Configure => !instance.given.settings.is_empty(),
                    Operation::Upgrade => instance.version == "2",
                    Operation::Resize => instance.flavor.name == "large",
                    _ => done,
                };
                assert_eq!(changed, done, "{what}: ended {status:?}");
            }
            State::Stopped => assert!(self.world.is_stopped(self.instance), "{what}: stopped and runs"),
            State::Error => {
                assert_eq!(self.world.residue(), [""; 0], "{what}: in error and something is left");
                assert!(instance.fault.is_some() && instance.endpoint.is_none(), "{what}: {instance:?}");
            }
            state => panic!("{what}: left in {state}"),
        }
    }

    async fn delete(&mut self, what: &str) {
        let Some(instance) = self.store.instance(self.instance).await.unwrap() else {
            return self.assert_gone(what).await;
        };
        let delete = OperationId::new_v4();
        self.begin(DeleteInstance {}.begin(delete).unwrap(), (instance.state, State::Deleting)).await;
        self.world = self.world.crash();
        self.world.script(|_, _| Verdict::Proceed);
        self.settle(&self.boot(Arc::new(self.store.clone())), delete).await;
        self.assert_gone(what).await;
    }

    async fn assert_gone(&self, what: &str) {
        assert_eq!(self.world.residue(), [""; 0], "{what}: something is left");
        assert_eq!(self.store.instance(self.instance).await.unwrap(), None, "{what}: the row is left");
    }

    /// Runs the operation to its end, with this fault, through this death.
    async fn run(&mut self, fault: Option<Fault>, death: Option<Death>) -> Run {
        let died = Arc::new(Notify::new());
        let first_call = self.world.calls();
        self.play(first_call, fault, death, died.clone());
        let journal = Arc::new(MortalJournal::new(self.store.clone(), death, died.clone()));
        let first = self.boot(journal.clone());
        let status = tokio::select! {
            status = self.settle(&first, self.id) => Some(status),
            () = died.notified() => None,
        };
        let (calls, writes) = (self.world.calls() - first_call, journal.writes.load(Ordering::Relaxed));
        let status = match status {
            Some(status) => status,
            None => self.take_over(fault, first_call).await,
        };
        if status == Some(OperationStatus::Stuck) {
            // What kept it from ending is mended, and somebody resumes it, or asks for its deletion again.
            self.world.script(|_, _| Verdict::Proceed);
            if self.operation == Operation::Delete && calls.is_multiple_of(2) {
                let again = OperationId::new_v4();
                self.begin(DeleteInstance {}.begin(again).unwrap(), (State::Error, State::Deleting)).await;
                let status = self.settle(&self.boot(Arc::new(self.store.clone())), again).await;
                return Run { status, calls, writes };
            }
            assert!(self.store.resume_operation(self.id, self.clock.now()).await.unwrap());
            let status = self.settle(&self.boot(Arc::new(self.store.clone())), self.id).await;
            return Run { status, calls, writes };
        }
        Run { status, calls, writes }
    }

    /// Another owner goes on where the first died; a fault that lasts still does.
    async fn take_over(&mut self, fault: Option<Fault>, first_call: usize) -> Option<OperationStatus> {
        self.world = self.world.crash();
        self.play(first_call, fault, None, Arc::default());
        if self.deleted_at_death {
            let instance = self.store.instance(self.instance).await.unwrap().unwrap();
            let delete = OperationId::new_v4();
            self.begin(DeleteInstance {}.begin(delete).unwrap(), (instance.state, State::Deleting)).await;
            return self.settle(&self.boot(Arc::new(self.store.clone())), delete).await;
        }
        self.settle(&self.boot(Arc::new(self.store.clone())), self.id).await
    }

    /// Makes calls fail, and the owner die at one.
    fn play(&self, first: usize, fault: Option<Fault>, death: Option<Death>, died: Arc<Notify>) {
        let mut failing: Option<String> = None;
        self.world.script(move |number, name| {
            let number = number - first;
            if let Some(Death::AtCall { call, after }) = death
                && call == number
            {
                died.notify_one();
                return if after { Verdict::HangAfter } else { Verdict::HangBefore };
            }
            let Some(fault) = fault else { return Verdict::Proceed };
            if fault.call == number && fault.lasting {
                failing = Some(name.to_owned());
            }
            let error = if failing.as_deref() == Some(name) {
                Error::invalid("this never works")
            } else if fault.call == number {
                Error::unavailable("this did not work")
            } else {
                return Verdict::Proceed;
            };
            if fault.after { Verdict::FailAfter(error) } else { Verdict::FailBefore(error) }
        });
    }

    /// A control plane on this world and store.
    fn boot(&self, journal: Arc<dyn Journal>) -> Engine<ControlPlane> {
        let events = Events::new();
        let (reports, _) = conductor::start(self.store.clone(), events.clone(), CancellationToken::new());
        let driver: Arc<dyn Driver> = Arc::new(self.world.driver());
        let drivers = HashMap::from([("memory".to_owned(), driver)]);
        let control = Arc::new(ControlPlane {
            store: self.store.clone(),
            platform: self.world.platform(),
            guests: Guests::new(drivers, guest::Settings::default(), self.clock.clone(), reports),
            master_key: self.key.clone(),
            places: Default::default(),
            trials: Default::default(),
        });
        let owner = OperationId::new_v4().to_string();
        Engine::new(owner, journal, control, registry(), Settings::default(), self.clock.clone(), events)
    }

    /// Runs what is due, and moves the clock to what is due next, until the operation has ended.
    async fn settle(&self, engine: &Engine<ControlPlane>, id: OperationId) -> Option<OperationStatus> {
        for _ in 0..500 {
            engine.run_due().await.unwrap();
            let status = self.store.operation(id).await.unwrap().map(|operation| operation.status);
            if status.is_none_or(OperationStatus::is_final) {
                return status;
            }
            let due = self.store.next_due().await.unwrap().unwrap();
            self.clock.advance(elapsed(self.clock.now(), due).max(Duration::from_millis(1)));
        }
        panic!("{:?} did not end", self.operation);
    }

    async fn begin_creation(&self, id: OperationId) {
        let users = [NewUser::new("app", "secret").granted("app")];
        let flow = CreateInstance::new(self.instance, vec![NewDatabase::new("app")], &users, &self.key).unwrap();
        let flavor = Flavor::new("small", ByteSize::default(), 1);
        let now = self.clock.now();
        let mut instance = Instance::new(self.instance, "orders", "memory", flavor, ByteSize::default(), now);
        (instance.version, instance.version_number) = ("1".to_owned(), "1".to_owned());
        instance.image = "memory:1".to_owned();
        self.store.insert_instance(&instance, "", &flow.begin(id).unwrap()).await.unwrap();
    }

    async fn begin(&self, row: NewOperation, states: (State, State)) {
        let admitted = self.store.begin_operation(self.instance, states, &row, true, self.clock.now()).await.unwrap();
        assert_eq!(admitted, Admitted::Begun);
    }
}

/// A journal whose user dies at one of its writes.
struct MortalJournal {
    store: Store,
    death: Option<(usize, bool)>,
    died: Arc<Notify>,
    writes: AtomicUsize,
}

impl MortalJournal {
    fn new(store: Store, death: Option<Death>, died: Arc<Notify>) -> Self {
        let death = match death {
            Some(Death::AtWrite { write, after }) => Some((write, after)),
            Some(Death::AtCall { .. }) | None => None,
        };
        Self { store, death, died, writes: AtomicUsize::new(0) }
    }

    async fn write<T>(&self, write: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let number = self.writes.fetch_add(1, Ordering::Relaxed);
        match self.death {
            Some((at, after)) if at == number => {
                if after {
                    write.await.unwrap_or_else(|error| panic!("the last write failed: {error:?}"));
                }
                self.died.notify_one();
                std::future::pending().await
            }
            _ => write.await,
        }
    }
}

#[async_trait]
impl Journal for MortalJournal {
    async fn claim(&self, owner: &str, now: Timestamp, lease_until: Timestamp) -> Result<Option<Entry>> {
        self.write(self.store.claim(owner, now, lease_until)).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        self.store.next_due().await
    }

    async fn renew(&self, id: OperationId, epoch: u64, lease_until: Timestamp) -> Result<Option<Cancel>> {
        self.store.renew(id, epoch, lease_until).await
    }

    async fn record(&self, id: OperationId, instance: InstanceId, epoch: u64, record: &Record) -> Result<()> {
        self.write(self.store.record(id, instance, epoch, record)).await
    }
}
