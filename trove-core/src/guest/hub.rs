//! The guests of a control plane, and the way to call them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    GuestIdentity, Telling,
    agent::Settings,
    lifeline::Lifeline,
    local::LocalGuest,
    message::{self, Answer, Failure, Request},
    protocol::{AccountsCall, AccountsReply, JobEnd, Work},
    remote::Remote,
};
use crate::{
    datastore::{Driver, ProgressSink, RegistryLogin},
    error::{Error, Result},
    id::{InstanceId, OperationId},
    model::Instance,
    platform::Placement,
    rpc::{
        Address, BrokerEndpoint, BrokerLogin, DropCounters, InstanceKey, MessageBroker, OnGuestRestart, RpcClient,
        Transport,
    },
    time::Clock,
};

/// How long a guest may take to answer what it knows by itself: shorter than a step waits for a job.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long it may take to answer about accounts: longer than [its driver](crate::layer::Deadline) may.
const ACCOUNTS_LIMIT: Duration = Duration::from_secs(90);
/// How often the end of a job is asked for where nobody tells of it.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// The guests of a control plane. It calls each over a sealed [`RpcClient`]; those of this process it hosts.
pub struct Guests {
    drivers: HashMap<String, Arc<dyn Driver>>,
    guests: Mutex<HashMap<InstanceId, Arc<Guest>>>,
    bus: Arc<dyn MessageBroker>,
    transport: Arc<dyn Transport>,
    settings: Settings,
    clock: Clock,
    reports: mpsc::Sender<Telling>,
    drops: DropCounters,
    /// Some guest cannot be called any more.
    lost: Arc<Notify>,
    stop: CancellationToken,
    // Ends the agents when the service goes without a shutdown.
    _guard: DropGuard,
}

/// One guest, as the control plane has it.
struct Guest {
    line: RpcClient,
    remote: Arc<Remote>,
    lifeline: Lifeline,
    /// The agent, where it is in this process.
    local: Option<LocalGuest>,
}

/// On whose behalf a guest is called.
#[derive(Clone)]
pub struct Call {
    /// The operation; the key by which a repeated call is recognised.
    pub operation: OperationId,
    /// The caller's epoch.
    pub epoch: u64,
    /// Whom to tell how far it is.
    pub progress: Option<ProgressSink>,
}

impl Guests {
    /// No guests yet; those to come are of these datastores, are called over this bus and report here.
    pub fn new(
        drivers: HashMap<String, Arc<dyn Driver>>,
        bus: Arc<dyn MessageBroker>,
        settings: Settings,
        clock: Clock,
        reports: mpsc::Sender<Telling>,
    ) -> Self {
        let stop = CancellationToken::new();
        Self {
            drivers,
            guests: Mutex::default(),
            transport: bus.control(),
            bus,
            settings,
            clock,
            reports,
            drops: DropCounters::new(),
            lost: Arc::default(),
            _guard: stop.clone().drop_guard(),
            stop,
        }
    }

    /// What counts the frames that were dropped.
    pub fn drops(&self) -> DropCounters {
        self.drops.clone()
    }

    /// The driver of this name; [`NotFound`](crate::error::Kind::NotFound) lists those there are.
    pub fn driver(&self, datastore: &str) -> Result<&Arc<dyn Driver>> {
        self.drivers.get(datastore).ok_or_else(|| {
            let mut known = self.drivers.keys().map(String::as_str).collect::<Vec<_>>();
            known.sort_unstable();
            Error::not_found(format!("there is no datastore {datastore:?}; there are: {}", known.join(", ")))
        })
    }

    /// Makes sure that the guest of an instance has its mailboxes and may use them.
    pub async fn admit(&self, instance: InstanceId, identity: &GuestIdentity) -> Result<BrokerEndpoint> {
        admit(&*self.bus, instance, identity).await
    }

    /// Makes sure an agent hosts the instance, in the place its platform gave it, and that it can be called. The caller sees
    /// to it that nobody else attaches or detaches the instance meanwhile.
    pub async fn attach(
        &self,
        instance: &Instance,
        identity: &GuestIdentity,
        endpoint: &BrokerEndpoint,
        placement: Placement,
        login: Option<RegistryLogin>,
    ) -> Result<()> {
        if self.stop.is_cancelled() {
            return Err(Error::cancelled("the service is shutting down"));
        }
        if self.is_attached(instance.id) {
            return Ok(());
        }
        let datastore = match placement {
            Placement::Elsewhere => None,
            Placement::InProcess(mut host) => {
                host.login = login;
                Some(self.driver(&instance.datastore)?.attach(*host)?)
            }
        };
        // One that cannot be called any more ends before another is beside the same server.
        self.detach(instance.id).await;
        let lifeline = Lifeline::new(self.stop.child_token(), self.lost.clone());
        let (reports, clock) = (self.reports.clone(), self.clock.clone());
        let remote = Arc::new(Remote::new(instance.id, reports, clock, lifeline.clone()));
        let (transport, identity, drops) = (self.transport.clone(), identity.clone(), self.drops.clone());
        let key = identity.key.clone();
        let line = RpcClient::open(transport, instance.id, key, remote.clone(), drops.clone()).await?;
        let begin = |datastore| {
            LocalGuest::begin(instance, datastore, identity, endpoint, self.settings, drops, lifeline.clone())
        };
        let local = datastore.map(begin).transpose()?;
        self.guests().insert(instance.id, Arc::new(Guest { line, remote, lifeline, local }));
        Ok(())
    }

    /// True where an agent hosts the instance and can be called.
    pub fn is_attached(&self, instance: InstanceId) -> bool {
        self.guests().get(&instance).is_some_and(|guest| !guest.lifeline.is_cut())
    }

    /// Waits until some guest that was attached cannot be called any more.
    pub async fn lost(&self) {
        self.lost.notified().await;
    }

    /// Ends the agent of an instance, whose server, if it still has one, goes on.
    pub async fn detach(&self, instance: InstanceId) {
        let guest = self.guests().get(&instance).cloned();
        if let Some(guest) = guest {
            // It stays known until it has ended, so that a call that is broken off is made again.
            guest.end().await;
            self.guests().remove(&instance);
        }
    }

    /// Takes an instance's mailboxes away, and its logins of these numbers.
    pub async fn dismiss(&self, instance: InstanceId, numbers: &[u32]) -> Result<()> {
        dismiss(&*self.bus, instance, numbers).await
    }

    /// Goes on with another key, of which the guest was told; it has answered with it then.
    pub async fn renew(&self, instance: InstanceId, key: InstanceKey, patience: Duration) -> Result<()> {
        let guest = self.guest(instance)?;
        guest.line.rotate_key(key, patience).await?;
        // Which job it is does not matter.
        let anything = Request::JobEnd { operation: OperationId::new_v4(), work: String::new() };
        guest.ask(&anything, OnGuestRestart::Resend, ANSWER_LIMIT).await.map(drop)
    }

    /// Takes a login of an instance's guest away.
    pub async fn retire(&self, instance: InstanceId, number: u32) -> Result<()> {
        self.bus.revoke(&BrokerLogin::guest_user(instance, number)).await
    }

    /// Begins a job or joins the one of the same key, and waits for its end for up to `patience` or until told to stop.
    pub async fn job(
        &self,
        instance: InstanceId,
        call: &Call,
        work: Work,
        patience: Duration,
        stop: impl Future<Output = ()>,
    ) -> Result<JobEnd> {
        let guest = self.guest(instance)?;
        let _heard = call.progress.clone().map(|sink| guest.remote.follow(call.operation, sink));
        let ended = async {
            let (operation, epoch, name) = (call.operation, call.epoch, work.name().to_owned());
            let begin = Request::Job { operation, epoch, work };
            let ask = Request::JobEnd { operation, work: name };
            let mut request = &begin;
            loop {
                let told = guest.remote.job_ended();
                match guest.ask(request, OnGuestRestart::Resend, ANSWER_LIMIT).await? {
                    Answer::Job(JobEnd::Done) => return Ok(JobEnd::Done),
                    Answer::Job(JobEnd::Running) => {
                        request = &ask;
                        // Either way it is asked.
                        let _ = tokio::time::timeout(ASK_EVERY, told).await;
                    }
                    Answer::NoJob if std::ptr::eq(request, &ask) => request = &begin,
                    Answer::NoJob | Answer::Accounts(_) => return Err(unexpected()),
                }
            }
        };
        tokio::select! {
            ended = ended => ended,
            () = stop => Ok(JobEnd::Running),
            () = tokio::time::sleep(patience) => Ok(JobEnd::Running),
        }
    }

    /// Asks about accounts, or changes them. A caller that goes away does not stop a change half-way.
    pub async fn accounts(&self, instance: InstanceId, call: Call, question: AccountsCall) -> Result<AccountsReply> {
        let repeat = if question.action().is_some() { OnGuestRestart::Fail } else { OnGuestRestart::Resend };
        let request = Request::Accounts { operation: call.operation, epoch: call.epoch, question };
        match self.guest(instance)?.ask(&request, repeat, ACCOUNTS_LIMIT).await? {
            Answer::Accounts(reply) => Ok(reply),
            Answer::Job(_) | Answer::NoJob => Err(unexpected()),
        }
    }

    /// Ends all agents. The servers go on.
    pub async fn shut_down(&self) {
        self.stop.cancel();
        let guests: Vec<_> = self.guests().drain().map(|(_, guest)| guest).collect();
        join_all(guests.iter().map(|guest| guest.end())).await;
    }

    fn guest(&self, instance: InstanceId) -> Result<Arc<Guest>> {
        let guest = self.guests().get(&instance).cloned();
        guest.ok_or_else(|| Error::unavailable("the instance's guest agent is not there yet"))
    }

    fn guests(&self) -> MutexGuard<'_, HashMap<InstanceId, Arc<Guest>>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guest {
    /// Ends the agent, where it is in this process.
    async fn end(&self) {
        if let Some(local) = &self.local {
            local.end().await;
        }
    }

    async fn ask(&self, request: &Request, repeat: OnGuestRestart, limit: Duration) -> Result<Answer> {
        let answer = self.line.call(&message::write(request), repeat, limit).await?;
        match message::read::<std::result::Result<Answer, Failure>>(&answer) {
            Ok(answer) => answer.map_err(Error::from),
            Err(error) => Err(Error::internal("the guest gave no answer that makes sense").because(error)),
        }
    }
}

/// Makes sure that the guest of an instance has its mailboxes on a bus and may use them.
pub(crate) async fn admit(
    bus: &dyn MessageBroker,
    instance: InstanceId,
    identity: &GuestIdentity,
) -> Result<BrokerEndpoint> {
    for address in mailboxes(instance) {
        bus.control().create(&address).await?;
    }
    bus.authorize(instance, &identity.login).await
}

/// Takes an instance's mailboxes on a bus away, and its logins of these numbers.
pub(crate) async fn dismiss(bus: &dyn MessageBroker, instance: InstanceId, numbers: &[u32]) -> Result<()> {
    for number in numbers {
        bus.revoke(&BrokerLogin::guest_user(instance, *number)).await?;
    }
    for address in mailboxes(instance) {
        bus.control().remove(&address).await?;
    }
    Ok(())
}

/// The mailboxes of an instance.
fn mailboxes(instance: InstanceId) -> [Address; 2] {
    [Address::guest(instance), Address::control(instance)]
}

fn unexpected() -> Error {
    Error::internal("the guest answered another question")
}
