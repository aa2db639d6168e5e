//! Frames over a real RabbitMQ.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

mod adversary;
mod apart;
mod broker;
#[path = "../service/changes.rs"]
mod changes;
mod client;
mod gate;
#[path = "../service/life.rs"]
mod life;
mod logs;
mod outage;
mod proxy;

use std::sync::Arc;

use broker::{Bed, RabbitMq};
use trove_core::{
    Trove,
    conformance::{memory::World, transport},
    control::{Builder, NewInstance},
};

/// A service whose guests are called over the broker.
async fn builder() -> Builder {
    Trove::builder().message_broker(RabbitMq::shared().await.bus())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_the_transport_that_is_promised() {
    // Every connection to it is broken.
    let broker = Arc::new(RabbitMq::own().await);
    let report = transport::certify("RabbitMQ", Bed(broker)).await;
    assert!(report.passed(), "{report}");
    println!("{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_leaves_nothing_at_the_broker() {
    let (broker, world) = (RabbitMq::shared().await, World::new());
    let trove = builder().await.store("sqlite::memory:").platform(world.platform()).datastore(world.driver());
    let trove = trove.start().await.unwrap();
    let instance = trove.create(NewInstance::new("orders", "memory")).await.unwrap().active().await.unwrap();
    let id = instance.id.to_string();
    assert_eq!(broker.mentions(&id), ["users", "queues", "exchanges"]);
    instance.delete().await.unwrap().wait().await.unwrap();
    assert_eq!(broker.mentions(&id), [""; 0]);
    trove.shut_down().await;
}
