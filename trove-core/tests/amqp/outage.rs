//! An unavailable broker and a failing network: each request takes effect once, or returns an error.

mod fixture;
mod stall;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::timeout;
use trove_core::{
    Trove,
    control::{NewConfiguration, NewInstance},
    error::{Effect, Kind, Result},
    id::InstanceId,
    model::{NewDatabase, NewUser},
    rpc::{Address, MessageBroker},
};

use crate::{
    broker::RabbitMqContainer,
    proxy::Traffic,
    remote_agent::{GuestPlacement, RemoteAgents, users},
};
use fixture::{BrokerAccess, Effects, Workload, failure, start};

/// Bounds how long a broken test hangs.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Creates an instance and runs every kind of operation on it once.
async fn run_lifecycle(trove: &Trove, name: &str) -> InstanceId {
    let new = NewInstance::new(name, "memory").database("app").user("app", "secret");
    let instance = trove.create(new).await.unwrap().active().await.unwrap();
    let accounts = instance.accounts();
    let user = |number: usize| format!("{name}{number}");
    let created = (0..8).map(|number| accounts.create_users([NewUser::new(user(number), "secret")]));
    for created in join_all(created).await {
        created.unwrap();
    }
    let group = NewConfiguration::new(name, "memory").set("max_rows", 5);
    let group = trove.configurations().create(group).await.unwrap();
    instance.configure(group.id).await.unwrap().wait().await.unwrap();
    instance.resize("large").await.unwrap().wait().await.unwrap();
    instance.stop().await.unwrap().wait().await.unwrap();
    instance.start().await.unwrap().active().await.unwrap();
    let rotation = instance.rotate_identity().await.unwrap();
    let changes = async {
        retry_while_busy(async || accounts.create_databases([NewDatabase::new(name)]).await).await;
        for number in 1..8 {
            let other = format!("{name}{number}x");
            retry_while_busy(async || accounts.rename_user(user(number).as_str(), other.as_str()).await).await;
            retry_while_busy(async || accounts.drop_user(other.as_str()).await).await;
        }
    };
    let (rotated, ()) = tokio::join!(rotation.wait(), changes);
    rotated.unwrap();
    instance.id
}

/// Retries an account change while another operation runs, which must not have had an effect.
async fn retry_while_busy(change: impl AsyncFn() -> Result<()>) {
    while let Err(error) = change().await {
        assert_eq!((error.kind(), error.effect()), (Kind::Busy, Effect::None), "{error}");
        tokio::time::sleep(crate::POLL_INTERVAL).await;
    }
}

/// Runs the life cycle of several instances concurrently with this network behavior, and returns
/// how often connections broke.
async fn run_lifecycles(traffic: Traffic, guests: GuestPlacement, names: &[&str]) -> usize {
    let (access, agents) =
        (BrokerAccess::through_proxies(RabbitMqContainer::shared().await).await, RemoteAgents::new());
    let effects = Effects::on(&agents.world);
    access.frames.set(traffic);
    let trove = start(&access, &agents, guests).await;
    let instances = timeout(TIMEOUT, join_all(names.iter().map(|name| run_lifecycle(&trove, name)))).await.unwrap();
    for (id, name) in instances.into_iter().zip(names) {
        let users = ["app", &format!("{name}0")];
        assert!(agents.world.serves(id, &["app", name], &users));
        trove.instance(id).await.unwrap().delete().await.unwrap().wait().await.unwrap();
        assert_eq!(access.broker.resources_of(&id.to_string()).await, [""; 0]);
    }
    assert_eq!(effects.repeated(), [""; 0]);
    for job in ["prepare", "configuration.apply", "resize.resize", "stop", "start"] {
        assert_eq!(effects.count(job), names.len(), "{job}");
    }
    trove.shut_down().await;
    access.frames.breaks()
}

#[tokio::test(flavor = "multi_thread")]
async fn effects_happen_exactly_once_while_connections_break_repeatedly() {
    let breaking = [GuestPlacement::InProcess, GuestPlacement::Remote]
        .map(|guests| run_lifecycles(Traffic::BreakEvery(5000), guests, &["one"]));
    for breaks in join_all(breaking).await {
        assert!(breaks > 8, "connections broke only {breaks} times");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn effects_happen_exactly_once_on_a_slow_network() {
    let traffic = Traffic::Delay(Duration::from_millis(30));
    tokio::join!(
        run_lifecycles(traffic, GuestPlacement::InProcess, &["one"]),
        run_lifecycles(traffic, GuestPlacement::Remote, &["two"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_continue_across_a_broker_restart() {
    let access = BrokerAccess::through_proxies(Arc::new(RabbitMqContainer::own().await)).await;
    let (local, remote) = tokio::join!(
        Workload::start(&access, GuestPlacement::InProcess),
        Workload::start(&access, GuestPlacement::Remote)
    );
    let run = async {
        for signal in ["TERM", "KILL"] {
            let restarted = AtomicBool::new(false);
            let restart = async {
                access.restart(signal).await;
                restarted.store(true, Ordering::Relaxed);
            };
            tokio::join!(restart, local.work(signal, &restarted), remote.work(signal, &restarted));
        }
        local.assert_effects_happened_once();
        remote.assert_effects_happened_once();
        tokio::join!(local.finish(&access), remote.finish(&access));
    };
    timeout(TIMEOUT, run).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_reconnect_after_the_broker_lost_its_state() {
    let access = BrokerAccess::through_proxies(Arc::new(RabbitMqContainer::own().await)).await;
    let (local, remote) = tokio::join!(
        Workload::start(&access, GuestPlacement::InProcess),
        Workload::start(&access, GuestPlacement::Remote)
    );
    let run = async {
        let was_reset = AtomicBool::new(false);
        let reset = async {
            access.broker.reset().await;
            was_reset.store(true, Ordering::Relaxed);
        };
        tokio::join!(reset, local.restart_server(&was_reset), remote.restart_server(&was_reset));
        tokio::join!(users(&local.accounts), users(&remote.accounts));
        tokio::join!(local.work("reset", &was_reset), remote.work("reset", &was_reset));
        // An in-process agent is re-created with its queue and repeats its current job, so only remote
        // agents are checked.
        remote.assert_effects_happened_once();
        tokio::join!(local.finish(&access), remote.finish(&access));
    };
    timeout(TIMEOUT, run).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sending_to_a_full_queue_fails_until_it_is_drained() {
    let (access, agents) =
        (BrokerAccess::through_proxies(RabbitMqContainer::shared().await).await, RemoteAgents::new());
    let (effects, trove) = (Effects::on(&agents.world), start(&access, &agents, GuestPlacement::Remote).await);
    let instance = trove.create(NewInstance::new("orders", "memory")).await.unwrap().active().await.unwrap();
    let (id, mut events, control) = (instance.id, trove.events(), access.message_broker().control());
    let fill = async |address: Address| {
        let full = loop {
            let sent = join_all((0..64).map(|_| control.send(&address, b"junk".to_vec()))).await;
            if let Some(error) = sent.into_iter().find_map(Result::err) {
                break error;
            }
        };
        assert_eq!((full.kind(), full.effect()), (Kind::Busy, Effect::None), "{full:?}");
    };
    let without_guest = async {
        agents.stop(id).await.unwrap().unwrap();
        fill(Address::guest(id)).await;
        let stop = instance.stop().await.unwrap();
        let failed = failure(&mut events, stop.id()).await;
        assert_eq!(failed.kind, Kind::Timeout, "{failed:?}");
        agents.restart(id);
        stop.wait().await.unwrap();
        instance.start().await.unwrap().active().await.unwrap();
        assert_eq!((effects.count("stop"), effects.count("start")), (1, 1));
    };
    timeout(TIMEOUT, without_guest).await.unwrap();

    let without_control_plane = async {
        trove.shut_down().await;
        fill(Address::control(id)).await;
        let trove = start(&access, &agents, GuestPlacement::Remote).await;
        let instance = trove.instance(id).await.unwrap();
        assert_eq!(users(&instance).await, 0);
        instance.delete().await.unwrap().wait().await.unwrap();
        trove.shut_down().await;
    };
    timeout(TIMEOUT, without_control_plane).await.unwrap();
}
