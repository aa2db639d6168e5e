//! A service behind a proxy, and its workload.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use trove_core::{
    Trove,
    conformance::memory::World,
    control::{InstanceHandle, NewInstance, OperationHandle},
    error::{Error, Kind, Result},
    events::EventStream,
    id::OperationId,
    layer::FaultAction,
    model::{EventKind, Flavor, NewUser, OperationError, PageRequest, gib, mib},
    rpc,
};

use crate::{
    broker::RabbitMqContainer,
    proxy::Proxy,
    remote_agent::{GuestPlacement, RemoteAgents, fast_settings},
};

/// The proxies between a broker and a service with its guests.
pub(super) struct BrokerAccess {
    pub(super) broker: Arc<RabbitMqContainer>,
    pub(super) frames: Proxy,
    pub(super) management: Proxy,
}

impl BrokerAccess {
    pub(super) async fn through_proxies(broker: Arc<RabbitMqContainer>) -> Self {
        let (frames, management) = (Proxy::to(broker.host(), 5672).await, Proxy::to(broker.host(), 15672).await);
        Self { broker, frames, management }
    }

    pub(super) fn message_broker(&self) -> rpc::RabbitMq {
        self.broker.through_ports(self.frames.port, self.management.port)
    }

    pub(super) async fn restart(&self, signal: &'static str) {
        self.broker.restart(signal).await;
        self.frames.set_target(self.broker.host());
        self.management.set_target(self.broker.host());
    }
}

/// Starts a service that calls its guests through the proxies.
pub(super) async fn start(access: &BrokerAccess, agents: &RemoteAgents, guests: GuestPlacement) -> Trove {
    let platform = if guests == GuestPlacement::Remote { agents.platform() } else { agents.world.platform() };
    let service = Trove::builder()
        .message_broker(access.message_broker())
        .store(format!("sqlite:{}", agents.directory.path().join("trove.db").display()))
        .platform(platform)
        .datastore(agents.world.driver())
        .flavor(Flavor::new("small", mib(512), 1))
        .flavor(Flavor::new("large", gib(2), 2))
        .guest_settings(fast_settings());
    service.start().await.unwrap()
}

/// Counts calls that changed servers.
#[derive(Clone, Default)]
pub(super) struct Effects(Arc<Mutex<BTreeMap<String, usize>>>);

impl Effects {
    pub(super) fn on(world: &World) -> Self {
        let effects = Self::default();
        let recorded = effects.clone();
        world.script(move |_, call| {
            if call.changes {
                let what = format!("{} {:?}", call.name, call.arguments);
                *recorded.0.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += 1;
            }
            FaultAction::Proceed
        });
        effects
    }

    /// Returns the number of calls of this name.
    pub(super) fn count(&self, name: &str) -> usize {
        let effects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = effects.iter().filter(|(what, _)| what.split(' ').next() == Some(name));
        calls.map(|(_, times)| times).sum()
    }

    /// Returns the account changes that were made more than once.
    pub(super) fn repeated(&self) -> Vec<String> {
        let effects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let repeated = effects.iter().filter(|(what, times)| what.starts_with("accounts.") && **times > 1);
        repeated.map(|(what, times)| format!("{times} times {what}")).collect()
    }
}

/// Waits until an attempt of an operation fails, and returns the error.
pub(super) async fn failure(events: &mut EventStream, of: OperationId) -> OperationError {
    loop {
        match events.next().await.unwrap().kind {
            EventKind::Failed { operation, error, .. } if operation == of => return error,
            _ => {}
        }
    }
}

/// A service with two instances that are changed repeatedly.
pub(super) struct Workload {
    pub(super) agents: RemoteAgents,
    pub(super) effects: Effects,
    trove: Trove,
    pub(super) accounts: InstanceHandle,
    server: InstanceHandle,
    rounds: AtomicUsize,
    /// The number of operations that failed during the outage.
    given_up: AtomicUsize,
}

impl Workload {
    pub(super) async fn start(access: &BrokerAccess, guests: GuestPlacement) -> Self {
        let agents = RemoteAgents::new();
        let (effects, trove) = (Effects::on(&agents.world), start(access, &agents, guests).await);
        let new = async |name| trove.create(NewInstance::new(name, "memory")).await.unwrap().active().await.unwrap();
        let (accounts, server) = tokio::join!(new("accounts"), new("server"));
        Self { agents, effects, trove, accounts, server, rounds: AtomicUsize::new(0), given_up: AtomicUsize::new(0) }
    }

    /// Changes accounts and restarts the server until `done` is true, at least once.
    pub(super) async fn work(&self, round: &str, done: &AtomicBool) {
        let accounts = async {
            let accounts = self.accounts.accounts();
            for number in 0.. {
                let name = format!("{round}{number}").to_lowercase();
                let changed = match accounts.create_users([NewUser::new(name.as_str(), "secret")]).await {
                    Ok(()) => accounts.drop_user(name.as_str()).await,
                    failed => failed,
                };
                // The broker may restart more slowly than a call times out.
                assert!(changed.as_ref().err().is_none_or(Error::is_transient), "{changed:?}");
                if done.load(Ordering::Relaxed) {
                    return;
                }
            }
        };
        tokio::join!(accounts, self.restart_server(done));
    }

    /// Stops and starts the server until `done` is true, at least once.
    pub(super) async fn restart_server(&self, done: &AtomicBool) {
        loop {
            self.complete(async || self.server.stop().await).await;
            self.complete(async || self.server.start().await).await;
            self.rounds.fetch_add(1, Ordering::Relaxed);
            if done.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Runs an operation again until it succeeds. The broker may restart more slowly than an
    /// operation gives up, which is undone then.
    async fn complete(&self, begin: impl AsyncFn() -> Result<OperationHandle>) {
        while let Err(error) = begin().await.unwrap().wait().await {
            assert!([Kind::Timeout, Kind::Unavailable].contains(&error.kind()), "{error:?}");
            self.given_up.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn assert_effects_happened_once(&self) {
        let (rounds, given_up) = (self.rounds.load(Ordering::Relaxed), self.given_up.load(Ordering::Relaxed));
        for effect in ["stop", "start"] {
            let count = self.effects.count(effect);
            assert!((rounds..=rounds + given_up).contains(&count), "{count} times {effect} in {rounds} rounds");
        }
    }

    pub(super) async fn finish(&self, access: &BrokerAccess) {
        let accounts = self.accounts.accounts();
        for left in accounts.users(PageRequest::default()).await.unwrap().items {
            accounts.drop_user(left.user).await.unwrap();
        }
        assert_eq!(self.effects.repeated(), [""; 0]);
        for instance in [&self.accounts, &self.server] {
            assert!(self.agents.world.serves(instance.id, &[], &[]));
            assert_eq!(access.broker.resources_of(&instance.id.to_string()).await, ["users", "queues", "exchanges"]);
            instance.delete().await.unwrap().wait().await.unwrap();
            assert_eq!(access.broker.resources_of(&instance.id.to_string()).await, [""; 0]);
        }
        self.trove.shut_down().await;
    }
}
