use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{
    super::{
        ConfigureInstance, ControlPlane, CreateInstance, DeleteInstance, GuestDirectory, ResizeInstance, RestartServer,
        RotateIdentity, StartServer, StopServer, UpgradeInstance, registry,
    },
    Crash, FaultKind, FlowKind, InjectedFault,
    broker::{BrokerUsers, FaultInjectingBroker},
    journal::CrashingJournal,
};
use crate::{
    conductor,
    conformance::memory::World,
    datastore::Driver,
    error::Error,
    events::Events,
    flow::{Engine, EngineSettings, Flow},
    guest::AgentSettings,
    id::{InstanceId, OperationId},
    layer::FaultAction,
    lifecycle::State,
    model::{AssignedSettings, ByteSize, Flavor, Instance, NewDatabase, NewUser, OperationStatus, mib},
    secret::{MasterKey, MasterKeys},
    store::{InsertOutcome, InstanceRelease, Journal, NewOperation, Store},
    time::{Clock, Timestamp, elapsed},
};

/// The result of a run: its final status, and the numbers of calls and journal writes of its first
/// owner.
pub(super) struct Run {
    pub(super) status: Option<OperationStatus>,
    pub(super) calls: usize,
    pub(super) writes: usize,
}

/// One instance in one in-memory world, and the operation on it.
pub(super) struct Case {
    operation: FlowKind,
    store: Store,
    world: World,
    broker_users: BrokerUsers,
    clock: Clock,
    keys: MasterKeys,
    instance: InstanceId,
    id: OperationId,
    pub(super) delete_after_crash: bool,
}

impl Case {
    pub(super) async fn new(store: &Store, operation: FlowKind) -> Self {
        let case = Self {
            operation,
            store: store.clone(),
            world: World::new(),
            broker_users: BrokerUsers::default(),
            clock: Clock::manual(Timestamp::UNIX_EPOCH),
            keys: MasterKeys::new(MasterKey::generate().unwrap()),
            instance: InstanceId::new_v4(),
            id: OperationId::new_v4(),
            delete_after_crash: false,
        };
        if operation == FlowKind::Create {
            case.begin_creation(case.id).await;
            return case;
        }
        let create = OperationId::new_v4();
        case.begin_creation(create).await;
        case.settle(&case.start_control_plane(Arc::new(case.store.clone())), create).await;
        let mut from = State::Active;
        if operation == FlowKind::Start {
            let stop = OperationId::new_v4();
            case.begin(StopServer {}.begin(stop).unwrap(), (State::Active, State::Stopping)).await;
            case.settle(&case.start_control_plane(Arc::new(case.store.clone())), stop).await;
            from = State::Stopped;
        }
        let (row, to) = match operation {
            FlowKind::Create | FlowKind::Delete => (DeleteInstance {}.begin(case.id), State::Deleting),
            FlowKind::Restart => (RestartServer {}.begin(case.id), State::Restarting),
            FlowKind::Stop => (StopServer {}.begin(case.id), State::Stopping),
            FlowKind::Start => (StartServer {}.begin(case.id), State::Starting),
            FlowKind::Configure => {
                let settings = [("max_rows".to_owned(), 5.into()), ("cache_mib".to_owned(), 0.into())].into();
                let flow = ConfigureInstance::new(AssignedSettings { group: None, settings });
                (flow.begin(case.id), State::Configuring)
            }
            FlowKind::Upgrade => {
                let (version, number, image) = ("2".to_owned(), "2".to_owned(), "memory:2".to_owned());
                let flow = UpgradeInstance::new(InstanceRelease { version, number, image });
                (flow.begin(case.id), State::Upgrading)
            }
            FlowKind::Resize => (ResizeInstance::new(Flavor::new("large", mib(64), 2)).begin(case.id), State::Resizing),
            FlowKind::Rotate => (RotateIdentity::default().begin(case.id), State::Rotating),
        };
        case.begin(row.unwrap(), (from, to)).await;
        case
    }

    /// Runs the operation and asserts the expected end.
    pub(super) async fn check(mut self, fault: Option<InjectedFault>, crash: Option<Crash>) -> Run {
        let what = format!("{:?}, {fault:?}, {crash:?}", self.operation);
        let run = self.run(fault, crash).await;
        let permanent = matches!(fault, Some(InjectedFault { kind: FaultKind::Fails { permanent: true, .. }, .. }));
        // After a crash the call indexes shift, so that the fault may not be injected.
        let may_succeed = !permanent || crash.is_some();
        match (run.status, self.operation) {
            (None, FlowKind::Delete) => {}
            (Some(OperationStatus::Succeeded), _) => assert!(may_succeed, "{what}: succeeded"),
            (Some(OperationStatus::Failed), _) => assert!(permanent, "{what}: failed"),
            (status, _) => panic!("{what}: ended {status:?}"),
        }
        self.assert_consistent(run.status, &what).await;
        self.delete(&what).await;
        run
    }

    /// Asserts that the row of the instance describes its actual state.
    async fn assert_consistent(&self, status: Option<OperationStatus>, what: &str) {
        let Some(instance) = self.store.instance(self.instance).await.unwrap() else {
            assert_eq!(status, None, "{what}: the instance is gone");
            return;
        };
        match instance.state {
            State::Active => {
                let serves = self.world.serves(self.instance, &["app"], &["app"]);
                // After a failed restart the agent keeps restarting the server, so the health may be bad.
                let restart_failed = self.operation == FlowKind::Restart && status == Some(OperationStatus::Failed);
                assert!(serves || restart_failed, "{what}: active but not serving");
                let shape = (instance.image, instance.flavor.memory);
                assert_eq!(self.world.shape(self.instance), Some(shape), "{what}: image or memory differ");
                assert_eq!(
                    self.world.settings(self.instance),
                    instance.assigned_settings.settings,
                    "{what}: settings differ"
                );
                let done = status == Some(OperationStatus::Succeeded);
                let identities = self.store.identities(self.instance).await.unwrap();
                let numbers: Vec<u32> = identities.iter().map(|identity| identity.number).collect();
                let logins = self.broker_users.of(self.instance);
                assert!(logins.iter().all(|number| numbers.contains(number)), "{what}: a login without an identity");
                assert!(logins.last() == numbers.last(), "{what}: the guest has no login");
                let changed = match self.operation {
                    FlowKind::Configure => !instance.assigned_settings.settings.is_empty(),
                    FlowKind::Upgrade => instance.version == "2",
                    FlowKind::Resize => instance.flavor.name == "large",
                    FlowKind::Rotate => numbers == [2] && identities[0].delivered,
                    _ => done,
                };
                assert_eq!(changed, done, "{what}: ended {status:?}");
            }
            State::Stopped => assert!(self.world.is_stopped(self.instance), "{what}: stopped but running"),
            State::Error => {
                assert_eq!(self.world.leftovers(), [""; 0], "{what}: in error with leftovers");
                assert_eq!(self.broker_users.of(self.instance), [0; 0], "{what}: in error with a login");
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
        self.world.script(|_, _| FaultAction::Proceed);
        self.settle(&self.start_control_plane(Arc::new(self.store.clone())), delete).await;
        self.assert_gone(what).await;
    }

    pub(super) async fn assert_gone(&self, what: &str) {
        assert_eq!(self.world.leftovers(), [""; 0], "{what}: leftovers");
        assert_eq!(self.broker_users.of(self.instance), [0; 0], "{what}: leftover login");
        assert_eq!(self.store.instance(self.instance).await.unwrap(), None, "{what}: leftover row");
    }

    /// Runs the operation to its end with this fault and this crash.
    pub(super) async fn run(&mut self, fault: Option<InjectedFault>, crash: Option<Crash>) -> Run {
        let injector = self.world.faults().clone();
        let before = injector.calls();
        self.inject(0, fault, crash);
        let journal = Arc::new(CrashingJournal::new(self.store.clone(), crash));
        let first = self.start_control_plane(journal.clone());
        let status = tokio::select! {
            status = self.settle(&first, self.id) => Some(status),
            () = journal.crashed.notified() => None,
            () = injector.crashed() => None,
        };
        let (calls, writes) = (injector.calls() - before, journal.writes.load(Ordering::Relaxed));
        let status = match status {
            Some(status) => status,
            None => self.take_over(fault, calls).await,
        };
        if status == Some(OperationStatus::Stuck) {
            // The fault is removed, and the operation is resumed or the deletion requested again.
            self.world.script(|_, _| FaultAction::Proceed);
            if self.operation == FlowKind::Delete && calls.is_multiple_of(2) {
                let again = OperationId::new_v4();
                self.begin(DeleteInstance {}.begin(again).unwrap(), (State::Error, State::Deleting)).await;
                let status = self.settle(&self.start_control_plane(Arc::new(self.store.clone())), again).await;
                return Run { status, calls, writes };
            }
            assert!(self.store.resume_operation(self.id, self.clock.now()).await.unwrap());
            let status = self.settle(&self.start_control_plane(Arc::new(self.store.clone())), self.id).await;
            return Run { status, calls, writes };
        }
        Run { status, calls, writes }
    }

    /// Resumes the operation with another owner after the first one crashed after `calls` calls. A permanent fault
    /// persists.
    async fn take_over(&mut self, fault: Option<InjectedFault>, calls: usize) -> Option<OperationStatus> {
        self.world = self.world.crash();
        self.inject(calls, fault, None);
        if self.delete_after_crash {
            let instance = self.store.instance(self.instance).await.unwrap().unwrap();
            let delete = OperationId::new_v4();
            self.begin(DeleteInstance {}.begin(delete).unwrap(), (instance.state, State::Deleting)).await;
            return self.settle(&self.start_control_plane(Arc::new(self.store.clone())), delete).await;
        }
        self.settle(&self.start_control_plane(Arc::new(self.store.clone())), self.id).await
    }

    /// Injects the fault and the crash. Calls are counted from now on, starting at `before`.
    fn inject(&self, before: usize, fault: Option<InjectedFault>, crash: Option<Crash>) {
        let first = self.world.faults().calls();
        let mut failing: Option<&'static str> = None;
        self.world.script(move |number, call| {
            let number = number - first + before;
            match crash {
                Some(Crash::AtCall { call, after: false }) if call == number => return FaultAction::HangBefore,
                Some(Crash::AtCall { call, after: true }) if call == number => return FaultAction::HangAfter,
                _ => {}
            }
            let Some(fault) = fault else { return FaultAction::Proceed };
            let is_target = fault.call == number;
            match fault.kind {
                FaultKind::Twice if is_target => FaultAction::Twice,
                FaultKind::Delay if is_target => FaultAction::Delay(Duration::from_millis(1)),
                FaultKind::Twice | FaultKind::Delay => FaultAction::Proceed,
                FaultKind::Fails { after, permanent } => {
                    if is_target && permanent {
                        failing = Some(call.name);
                    }
                    let error = if failing == Some(call.name) {
                        Error::invalid("permanent fault")
                    } else if is_target {
                        Error::unavailable("transient fault")
                    } else {
                        return FaultAction::Proceed;
                    };
                    if after { FaultAction::FailAfter(error) } else { FaultAction::FailBefore(error) }
                }
            }
        });
    }

    /// Starts a control plane on this world and store.
    fn start_control_plane(&self, journal: Arc<dyn Journal>) -> Engine<ControlPlane> {
        let events = Events::new();
        let (reports, _) = conductor::start(self.store.clone(), events.clone(), CancellationToken::new());
        let driver: Arc<dyn Driver> = Arc::new(self.world.driver());
        let drivers = HashMap::from([("memory".to_owned(), driver)]);
        let broker = Arc::new(FaultInjectingBroker::new(self.world.faults().clone(), self.broker_users.clone()));
        let control = Arc::new(ControlPlane {
            store: self.store.clone(),
            platform: self.world.platform(),
            guests: GuestDirectory::new(drivers, broker, AgentSettings::default(), self.clock.clone(), reports),
            keys: self.keys.clone(),
            locks: Default::default(),
            scratch_servers: Default::default(),
        });
        let owner = OperationId::new_v4().to_string();
        Engine::new(owner, journal, control, registry(), EngineSettings::default(), self.clock.clone(), events)
    }

    /// Runs the operations that are due and advances the clock to the next due time, until the
    /// operation has ended.
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
        let flow = CreateInstance::new(self.instance, vec![NewDatabase::new("app")], &users, &self.keys).unwrap();
        let flavor = Flavor::new("small", ByteSize::default(), 1);
        let now = self.clock.now();
        let mut instance = Instance::new(self.instance, "orders", "memory", flavor, ByteSize::default(), now);
        (instance.version, instance.version_number) = ("1".to_owned(), "1".to_owned());
        instance.image = "memory:1".to_owned();
        self.store.insert_instance(&instance, "", &flow.begin(id).unwrap()).await.unwrap();
    }

    async fn begin(&self, row: NewOperation, states: (State, State)) {
        let outcome = self.store.begin_operation(self.instance, states, &row, true, self.clock.now()).await.unwrap();
        assert_eq!(outcome, InsertOutcome::Inserted);
    }
}
