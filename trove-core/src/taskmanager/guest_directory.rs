//! The directory of guests: attaches guests, calls them, and runs local agents.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{ReportQueue, attachment::Attachment, notice_receiver::NoticeReceiver};
use crate::{
    datastore::{Driver, ProgressSink, RegistryLogin},
    error::{Error, Kind, Result},
    guest::{
        self, AccountsCall, AccountsReply, AgentSettings, GuestIdentity, Job, JobStatus, LocalAgent, LocalConnection,
        message::{self, Failure, Request, Response},
    },
    id::{InstanceId, OperationId},
    model::Instance,
    platform::Placement,
    rpc::{
        BrokerEndpoint, BrokerLogin, DropCounters, InstanceKey, MessageBroker, OnGuestRestart, RpcClient, Transport,
    },
    time::Clock,
};

/// How long a guest may take to respond from its own state: shorter than a step waits for a job.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an account call may take: longer than the [deadline](crate::layer::Deadline) of the
/// driver.
const ACCOUNTS_TIMEOUT: Duration = Duration::from_secs(90);
/// How often the status of a job is polled if no notice about its end arrives.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// The guests of a control plane. Calls each over a sealed [`RpcClient`], and hosts the agents that run
/// in this process.
pub(crate) struct GuestDirectory {
    drivers: HashMap<String, Arc<dyn Driver>>,
    guests: Mutex<HashMap<InstanceId, Arc<AttachedGuest>>>,
    broker: Arc<dyn MessageBroker>,
    transport: Arc<dyn Transport>,
    settings: AgentSettings,
    clock: Clock,
    reports: ReportQueue,
    drops: DropCounters,
    /// Notified when an attachment is lost.
    any_lost: Arc<Notify>,
    stop: CancellationToken,
    // Stops the agents if the service is dropped without a shutdown.
    _guard: DropGuard,
}

struct AttachedGuest {
    client: RpcClient,
    notices: Arc<NoticeReceiver>,
    attachment: Attachment,
    /// The agent, if it runs in this process.
    local: Option<LocalAgent>,
}

/// The operation on whose behalf a guest is called.
#[derive(Clone)]
pub(crate) struct CallContext {
    /// The operation, which identifies repeated calls.
    pub(crate) operation: OperationId,
    /// The epoch of the caller.
    pub(crate) epoch: u64,
    /// Receives the progress of the call.
    pub(crate) progress: Option<ProgressSink>,
}

impl GuestDirectory {
    /// Creates an empty directory for guests of these datastores, which are called over `broker` and
    /// send reports to `reports`.
    pub(crate) fn new(
        drivers: HashMap<String, Arc<dyn Driver>>,
        broker: Arc<dyn MessageBroker>,
        settings: AgentSettings,
        clock: Clock,
        reports: ReportQueue,
    ) -> Self {
        let stop = CancellationToken::new();
        Self {
            drivers,
            guests: Mutex::default(),
            transport: broker.control(),
            broker,
            settings,
            clock,
            reports,
            drops: DropCounters::new(),
            any_lost: Arc::default(),
            _guard: stop.clone().drop_guard(),
            stop,
        }
    }

    /// Returns the counters of dropped frames.
    pub(crate) fn drops(&self) -> DropCounters {
        self.drops.clone()
    }

    /// Returns a driver by name; [`NotFound`](crate::error::Kind::NotFound) lists the available ones.
    pub(crate) fn driver(&self, datastore: &str) -> Result<&Arc<dyn Driver>> {
        self.drivers.get(datastore).ok_or_else(|| {
            let mut available = self.drivers.keys().map(String::as_str).collect::<Vec<_>>();
            available.sort_unstable();
            Error::not_found(format!("unknown datastore {datastore:?}; available: {}", available.join(", ")))
        })
    }

    /// Creates the queues of a guest and authorizes its login to use them.
    pub(crate) async fn authorize(&self, instance: InstanceId, identity: &GuestIdentity) -> Result<BrokerEndpoint> {
        guest::authorize(&*self.broker, instance, identity).await
    }

    /// Attaches the guest of an instance: starts its agent if the placement is in this process, and
    /// opens the RPC client to it. A guest that is attached already is left as it is. The caller holds
    /// the lock of the instance.
    pub(crate) async fn attach(
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
            Placement::Remote => None,
            Placement::InProcess(mut host) => {
                host.login = login;
                Some(self.driver(&instance.datastore)?.attach(*host)?)
            }
        };
        // Two agents must never manage the same server.
        self.detach(instance.id).await;
        let attachment = Attachment::new(self.stop.child_token(), self.any_lost.clone());
        let (reports, clock) = (self.reports.clone(), self.clock.clone());
        let notices = Arc::new(NoticeReceiver::new(instance.id, reports, clock, attachment.clone()));
        let (transport, identity, drops) = (self.transport.clone(), identity.clone(), self.drops.clone());
        let key = identity.key.clone();
        let client = RpcClient::open(transport, instance.id, key, notices.clone(), drops.clone()).await;
        // The broker may still have a consumer of an attempt whose answer was lost, until it notices.
        let client = client.map_err(|error| match error.kind() {
            Kind::Conflict => Error::busy("the guest is still attached").with_source(error),
            _ => error,
        })?;
        let start = |datastore| {
            let connection = LocalConnection { identity, endpoint, drops, stop: attachment.stop.clone() };
            let lost = attachment.clone();
            LocalAgent::start(instance, datastore, self.settings, connection, move || lost.mark_lost())
        };
        let local = datastore.map(start).transpose()?;
        self.guests().insert(instance.id, Arc::new(AttachedGuest { client, notices, attachment, local }));
        Ok(())
    }

    /// Returns true if the guest of an instance is attached and can be called.
    pub(crate) fn is_attached(&self, instance: InstanceId) -> bool {
        self.guests().get(&instance).is_some_and(|guest| !guest.attachment.is_lost())
    }

    /// Waits until any attachment is lost.
    pub(crate) async fn attachment_lost(&self) {
        self.any_lost.notified().await;
    }

    /// Detaches the guest of an instance and stops its agent if it runs in this process. Its server
    /// keeps running.
    pub(crate) async fn detach(&self, instance: InstanceId) {
        let guest = self.guests().get(&instance).cloned();
        if let Some(guest) = guest {
            // The guest stays in the directory until its agent has stopped, so that an interrupted call is retried.
            guest.shut_down().await;
            self.guests().remove(&instance);
        }
    }

    /// Removes the queues of an instance, and revokes its logins with these numbers.
    pub(crate) async fn revoke(&self, instance: InstanceId, numbers: &[u32]) -> Result<()> {
        guest::revoke(&*self.broker, instance, numbers).await
    }

    /// Switches to another key, which the guest already has. Returns once the guest has responded
    /// under the new key.
    pub(crate) async fn switch_key(&self, instance: InstanceId, key: InstanceKey, timeout: Duration) -> Result<()> {
        let guest = self.guest(instance)?;
        guest.client.rotate_key(key, timeout).await?;
        // Any request will do; this one changes nothing.
        let probe = Request::JobStatus { operation: OperationId::new_v4(), job: String::new() };
        guest.call(&probe, OnGuestRestart::Resend, RESPONSE_TIMEOUT).await.map(drop)
    }

    /// Revokes one login of an instance's guest.
    pub(crate) async fn revoke_login(&self, instance: InstanceId, number: u32) -> Result<()> {
        self.broker.revoke(&BrokerLogin::guest_user(instance, number)).await
    }

    /// Starts a job, or joins the job with the same key, and waits for its end until `timeout` or
    /// `stop`.
    pub(crate) async fn run_job(
        &self,
        instance: InstanceId,
        context: &CallContext,
        job: Job,
        timeout: Duration,
        stop: impl Future<Output = ()>,
    ) -> Result<JobStatus> {
        let guest = self.guest(instance)?;
        let _progress = context.progress.clone().map(|sink| guest.notices.subscribe_progress(context.operation, sink));
        let done = async {
            let (operation, epoch, name) = (context.operation, context.epoch, job.name().to_owned());
            let start = Request::Job { operation, epoch, job };
            let poll = Request::JobStatus { operation, job: name };
            let mut request = &start;
            loop {
                let ended = guest.notices.job_ended();
                match guest.call(request, OnGuestRestart::Resend, RESPONSE_TIMEOUT).await? {
                    Response::Job(JobStatus::Done) => return Ok(JobStatus::Done),
                    Response::Job(JobStatus::Running) => {
                        request = &poll;
                        // Poll after a notice and after a timeout alike.
                        let _ = tokio::time::timeout(POLL_INTERVAL, ended).await;
                    }
                    Response::NoJob if std::ptr::eq(request, &poll) => request = &start,
                    Response::NoJob | Response::Accounts(_) => return Err(unexpected()),
                }
            }
        };
        tokio::select! {
            done = done => done,
            () = stop => Ok(JobStatus::Running),
            () = tokio::time::sleep(timeout) => Ok(JobStatus::Running),
        }
    }

    /// Executes an account call. Dropping the future does not interrupt a change.
    pub(crate) async fn accounts(
        &self,
        instance: InstanceId,
        context: CallContext,
        mut call: AccountsCall,
    ) -> Result<AccountsReply> {
        guest::decode_marker(&mut call);
        let repeat = if call.action().is_some() { OnGuestRestart::Fail } else { OnGuestRestart::Resend };
        let request = Request::Accounts { operation: context.operation, epoch: context.epoch, call: call.clone() };
        match self.guest(instance)?.call(&request, repeat, ACCOUNTS_TIMEOUT).await? {
            Response::Accounts(reply) => guest::sanitize_reply(&call, reply),
            Response::Job(_) | Response::NoJob => Err(unexpected()),
        }
    }

    /// Stops all agents in this process. The servers keep running.
    pub(crate) async fn shut_down(&self) {
        self.stop.cancel();
        let guests: Vec<_> = self.guests().drain().map(|(_, guest)| guest).collect();
        join_all(guests.iter().map(|guest| guest.shut_down())).await;
    }

    fn guest(&self, instance: InstanceId) -> Result<Arc<AttachedGuest>> {
        let guest = self.guests().get(&instance).cloned();
        guest.ok_or_else(|| Error::unavailable("the guest agent of the instance is not attached"))
    }

    fn guests(&self) -> MutexGuard<'_, HashMap<InstanceId, Arc<AttachedGuest>>> {
        self.guests.lock()
    }
}

impl AttachedGuest {
    /// Stops the agent if it runs in this process.
    async fn shut_down(&self) {
        if let Some(local) = &self.local {
            local.shut_down().await;
        }
    }

    async fn call(&self, request: &Request, repeat: OnGuestRestart, timeout: Duration) -> Result<Response> {
        let response = self.client.call(&message::write(request), repeat, timeout).await?;
        match message::read::<std::result::Result<Response, Failure>>(&response) {
            Ok(response) => response.map_err(Error::from),
            Err(error) => Err(Error::internal("could not decode the response of the guest").with_source(error)),
        }
    }
}

fn unexpected() -> Error {
    Error::internal("the guest sent a response of an unexpected type")
}
