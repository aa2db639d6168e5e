//! The agents of this process, and the way to call them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Telling,
    agent::{Agent, Call, Settings, Surroundings},
    protocol::{AccountsCall, AccountsReply, Work},
};
use crate::{
    datastore::{Driver, GuestHost},
    error::{Error, Result},
    id::InstanceId,
    lifecycle,
    model::Instance,
    time::Clock,
};

/// The guests that live in this process.
pub struct Guests {
    drivers: HashMap<String, Arc<dyn Driver>>,
    agents: Mutex<HashMap<InstanceId, Arc<Agent>>>,
    settings: Settings,
    clock: Clock,
    reports: mpsc::Sender<Telling>,
    stop: CancellationToken,
    // Ends the agents when the service goes without a shutdown.
    _guard: DropGuard,
}

/// What waiting for a job came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// It is done.
    Done,
    /// It goes on; ask again.
    Running,
}

impl Guests {
    /// No guests yet; those to come are of these datastores and report here.
    pub fn new(
        drivers: HashMap<String, Arc<dyn Driver>>,
        settings: Settings,
        clock: Clock,
        reports: mpsc::Sender<Telling>,
    ) -> Self {
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        Self { drivers, agents: Mutex::default(), settings, clock, reports, stop, _guard: guard }
    }

    /// The driver of this name; [`NotFound`](crate::error::Kind::NotFound) lists those there are.
    pub fn driver(&self, datastore: &str) -> Result<&Arc<dyn Driver>> {
        self.drivers.get(datastore).ok_or_else(|| {
            let mut known = self.drivers.keys().map(String::as_str).collect::<Vec<_>>();
            known.sort_unstable();
            Error::not_found(format!("there is no datastore {datastore:?}; there are: {}", known.join(", ")))
        })
    }

    /// Makes sure an agent hosts the instance, in the place its platform gave it.
    pub fn attach(&self, instance: &Instance, host: GuestHost) -> Result<()> {
        let mut agents = self.agents();
        if self.stop.is_cancelled() {
            return Err(Error::cancelled("the service is shutting down"));
        }
        if agents.contains_key(&instance.id) {
            return Ok(());
        }
        let datastore = self.driver(&instance.datastore)?.attach(host)?;
        let serves = match instance.state {
            lifecycle::State::Stopped | lifecycle::State::Stopping => Some(false),
            state => lifecycle::should_serve(state).then_some(true),
        };
        let surroundings = Surroundings {
            settings: self.settings,
            clock: self.clock.clone(),
            reports: self.reports.clone(),
            stop: self.stop.child_token(),
        };
        let agent = Agent::spawn(instance.id, datastore, serves, instance.epoch, surroundings);
        agents.insert(instance.id, agent);
        Ok(())
    }

    /// True where an agent hosts the instance.
    pub fn is_attached(&self, instance: InstanceId) -> bool {
        self.agents().contains_key(&instance)
    }

    /// Ends the agent of an instance. Its server, if it still has one, goes on.
    pub async fn detach(&self, instance: InstanceId) {
        let agent = self.agents().remove(&instance);
        if let Some(agent) = agent {
            agent.shut_down().await;
        }
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
        let mut end: watch::Receiver<Option<Result<()>>> = self.agent(instance)?.begin(call, work)?;
        let ended = async {
            match end.wait_for(Option::is_some).await {
                Ok(result) => result.clone().unwrap_or(Ok(())).map(|()| JobEnd::Done),
                Err(_) => Err(Error::internal("the guest's job was lost")),
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
        self.agent(instance)?.accounts(call, question).await
    }

    /// Ends all agents. The servers go on.
    pub async fn shut_down(&self) {
        self.stop.cancel();
        let agents: Vec<_> = self.agents().drain().map(|(_, agent)| agent).collect();
        join_all(agents.iter().map(|agent| agent.shut_down())).await;
    }

    fn agent(&self, instance: InstanceId) -> Result<Arc<Agent>> {
        self.agents()
            .get(&instance)
            .cloned()
            .ok_or_else(|| Error::unavailable("the instance's guest agent is not there yet"))
    }

    fn agents(&self) -> MutexGuard<'_, HashMap<InstanceId, Arc<Agent>>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
