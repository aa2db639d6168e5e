use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{
    super::{
        ConfigureInstance, ControlPlane, CreateInstance, DeleteInstance, ResizeInstance, RestartServer, RotateIdentity,
        StartServer, StopServer, UpgradeInstance, registry,
    },
    Death, Fault, Operation, Trouble,
    bus::{Logins, TroubledBus},
    journal::MortalJournal,
};
use crate::{
    conductor,
    conformance::memory::World,
    datastore::Driver,
    error::Error,
    events::Events,
    flow::{Engine, Flow, Settings},
    guest::{self, Guests},
    id::{InstanceId, OperationId},
    layer::Verdict,
    lifecycle::State,
    model::{AssignedSettings, ByteSize, Flavor, Instance, NewDatabase, NewUser, OperationStatus, mib},
    secret::{MasterKey, MasterKeys},
    store::{InsertOutcome, InstanceRelease, Journal, NewOperation, Store},
    time::{Clock, Timestamp, elapsed},
};

/// How a run went: how it ended, and how many calls and journal writes its first owner made.
pub(super) struct Run {
    pub(super) status: Option<OperationStatus>,
    pub(super) calls: usize,
    pub(super) writes: usize,
}

/// One instance in one world, and the operation on it.
pub(super) struct Case {
    operation: Operation,
    store: Store,
    world: World,
    logins: Logins,
    clock: Clock,
    keys: MasterKeys,
    instance: InstanceId,
    id: OperationId,
    pub(super) deleted_at_death: bool,
}

impl Case {
    pub(super) async fn new(store: &Store, operation: Operation) -> Self {
        let case = Self {
            operation,
            store: store.clone(),
            world: World::new(),
            logins: Logins::default(),
            clock: Clock::manual(Timestamp::UNIX_EPOCH),
            keys: MasterKeys::new(MasterKey::generate().unwrap()),
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
                let flow = ConfigureInstance::new(AssignedSettings { group: None, settings });
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
            Operation::Rotate => (RotateIdentity::default().begin(case.id), State::Rotating),
        };
        case.begin(row.unwrap(), (from, to)).await;
        case
    }

    /// Runs the operation and asserts that it ended as it must.
    pub(super) async fn check(mut self, fault: Option<Fault>, death: Option<Death>) -> Run {
        let what = format!("{:?}, {fault:?}, {death:?}", self.operation);
        let run = self.run(fault, death).await;
        let lasting = matches!(fault, Some(Fault { trouble: Trouble::Fails { lasting: true, .. }, .. }));
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
                assert_eq!(
                    self.world.settings(self.instance),
                    instance.assigned_settings.settings,
                    "{what}: other settings"
                );
                let done = status == Some(OperationStatus::Succeeded);
                let identities = self.store.identities(self.instance).await.unwrap();
                let numbers: Vec<u32> = identities.iter().map(|identity| identity.number).collect();
                let logins = self.logins.of(self.instance);
                assert!(logins.iter().all(|number| numbers.contains(number)), "{what}: a login of nobody");
                assert!(logins.last() == numbers.last(), "{what}: the guest has no login");
                let changed = match self.operation {
                    Operation::Configure => !instance.assigned_settings.settings.is_empty(),
                    Operation::Upgrade => instance.version == "2",
                    Operation::Resize => instance.flavor.name == "large",
                    Operation::Rotate => numbers == [2] && identities[0].delivered,
                    _ => done,
                };
                assert_eq!(changed, done, "{what}: ended {status:?}");
            }
            State::Stopped => assert!(self.world.is_stopped(self.instance), "{what}: stopped and runs"),
            State::Error => {
                assert_eq!(self.world.residue(), [""; 0], "{what}: in error and something is left");
                assert_eq!(self.logins.of(self.instance), [0; 0], "{what}: in error and a login is left");
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

    pub(super) async fn assert_gone(&self, what: &str) {
        assert_eq!(self.world.residue(), [""; 0], "{what}: something is left");
        assert_eq!(self.logins.of(self.instance), [0; 0], "{what}: a login is left");
        assert_eq!(self.store.instance(self.instance).await.unwrap(), None, "{what}: the row is left");
    }

    /// Runs the operation to its end, with this fault, through this death.
    pub(super) async fn run(&mut self, fault: Option<Fault>, death: Option<Death>) -> Run {
        let chaos = self.world.chaos().clone();
        let before = chaos.calls();
        self.play(0, fault, death);
        let journal = Arc::new(MortalJournal::new(self.store.clone(), death));
        let first = self.boot(journal.clone());
        let status = tokio::select! {
            status = self.settle(&first, self.id) => Some(status),
            () = journal.died.notified() => None,
            () = chaos.crashed() => None,
        };
        let (calls, writes) = (chaos.calls() - before, journal.writes.load(Ordering::Relaxed));
        let status = match status {
            Some(status) => status,
            None => self.take_over(fault, calls).await,
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

    /// Another owner goes on where the first died after so many calls; a fault that lasts still does.
    async fn take_over(&mut self, fault: Option<Fault>, calls: usize) -> Option<OperationStatus> {
        self.world = self.world.crash();
        self.play(calls, fault, None);
        if self.deleted_at_death {
            let instance = self.store.instance(self.instance).await.unwrap().unwrap();
            let delete = OperationId::new_v4();
            self.begin(DeleteInstance {}.begin(delete).unwrap(), (instance.state, State::Deleting)).await;
            return self.settle(&self.boot(Arc::new(self.store.clone())), delete).await;
        }
        self.settle(&self.boot(Arc::new(self.store.clone())), self.id).await
    }

    /// Has calls go wrong, and the owner die at one. They are counted from now on, and there were so many before.
    fn play(&self, before: usize, fault: Option<Fault>, death: Option<Death>) {
        let first = self.world.chaos().calls();
        let mut failing: Option<&'static str> = None;
        self.world.script(move |number, call| {
            let number = number - first + before;
            match death {
                Some(Death::AtCall { call, after: false }) if call == number => return Verdict::HangBefore,
                Some(Death::AtCall { call, after: true }) if call == number => return Verdict::HangAfter,
                _ => {}
            }
            let Some(fault) = fault else { return Verdict::Proceed };
            let meant = fault.call == number;
            match fault.trouble {
                Trouble::Twice if meant => Verdict::Twice,
                Trouble::Delay if meant => Verdict::Delay(Duration::from_millis(1)),
                Trouble::Twice | Trouble::Delay => Verdict::Proceed,
                Trouble::Fails { after, lasting } => {
                    if meant && lasting {
                        failing = Some(call.name);
                    }
                    let error = if failing == Some(call.name) {
                        Error::invalid("this never works")
                    } else if meant {
                        Error::unavailable("this did not work")
                    } else {
                        return Verdict::Proceed;
                    };
                    if after { Verdict::FailAfter(error) } else { Verdict::FailBefore(error) }
                }
            }
        });
    }

    /// A control plane on this world and store.
    fn boot(&self, journal: Arc<dyn Journal>) -> Engine<ControlPlane> {
        let events = Events::new();
        let (reports, _) = conductor::start(self.store.clone(), events.clone(), CancellationToken::new());
        let driver: Arc<dyn Driver> = Arc::new(self.world.driver());
        let drivers = HashMap::from([("memory".to_owned(), driver)]);
        let bus = Arc::new(TroubledBus::new(self.world.chaos().clone(), self.logins.clone()));
        let control = Arc::new(ControlPlane {
            store: self.store.clone(),
            platform: self.world.platform(),
            guests: Guests::new(drivers, bus, guest::Settings::default(), self.clock.clone(), reports),
            keys: self.keys.clone(),
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
        let flow = CreateInstance::new(self.instance, vec![NewDatabase::new("app")], &users, &self.keys).unwrap();
        let flavor = Flavor::new("small", ByteSize::default(), 1);
        let now = self.clock.now();
        let mut instance = Instance::new(self.instance, "orders", "memory", flavor, ByteSize::default(), now);
        (instance.version, instance.version_number) = ("1".to_owned(), "1".to_owned());
        instance.image = "memory:1".to_owned();
        self.store.insert_instance(&instance, "", &flow.begin(id).unwrap()).await.unwrap();
    }

    async fn begin(&self, row: NewOperation, states: (State, State)) {
        let admitted = self.store.begin_operation(self.instance, states, &row, true, self.clock.now()).await.unwrap();
        assert_eq!(admitted, InsertOutcome::Inserted);
    }
}
