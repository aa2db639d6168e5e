//! Guests that are called over a RabbitMQ container.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

mod adversary;
mod broker;
mod call_gate;
mod certificates;
#[path = "../service/configuration.rs"]
mod configuration;
#[path = "../service/fixture.rs"]
mod fixture;
#[path = "../service/lifecycle.rs"]
mod lifecycle;
mod logs;
mod outage;
mod proxy;
mod raw_client;
mod remote_agent;
mod tls;
#[path = "../service/upgrade.rs"]
mod upgrade;

use std::{sync::Arc, time::Duration};

use broker::{BrokerTestbed, RabbitMqContainer};
use trove_core::{
    Trove,
    conformance::{memory::World, transport},
    control::{Builder, NewInstance},
};

/// The interval at which a condition is checked again.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Returns a service that calls its guests over the broker.
async fn builder() -> Builder {
    Trove::builder().message_broker(RabbitMqContainer::shared().await.shared_handle())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_transport_passes_the_conformance_suite() {
    // The suite breaks every connection to the broker.
    let broker = Arc::new(RabbitMqContainer::own().await);
    let report = transport::certify("RabbitMQ", BrokerTestbed(broker)).await;
    assert!(report.passed(), "{report}");
    println!("{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_an_instance_removes_its_broker_resources() {
    let (broker, world) = (RabbitMqContainer::shared().await, World::new());
    let trove = builder().await.store("sqlite::memory:").platform(world.platform()).datastore(world.driver());
    let trove = trove.start().await.unwrap();
    let instance = trove.create(NewInstance::new("orders", "memory")).await.unwrap().active().await.unwrap();
    let id = instance.id.to_string();
    assert_eq!(broker.resources_of(&id).await, ["users", "queues", "exchanges"]);
    instance.delete().await.unwrap().wait().await.unwrap();
    assert_eq!(broker.resources_of(&id).await, [""; 0]);
    trove.shut_down().await;
}
