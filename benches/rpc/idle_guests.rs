//! The memory that a broker needs for idle guests.

use std::time::Duration;

use lapin::{
    Connection, ConnectionProperties,
    options::{BasicConsumeOptions, QueueDeclareOptions},
    types::FieldTable,
};
use serde::Serialize;
use tokio::time::sleep;
use trove_benches::{BrokerContainer, Result};
use trove_core::rpc::Amqp;

use crate::{
    baseline::URI_PARAMETERS,
    trove::{ControlEnd, Guest, GuestEnd},
};

/// How long the broker is idle before its memory is measured.
const IDLE_TIME: Duration = Duration::from_secs(15);

/// The memory of the broker in KiB.
#[derive(Serialize)]
pub(super) struct BrokerMemory {
    pub(super) guests: usize,
    pub(super) baseline: f64,
    pub(super) trove: f64,
}

/// Measures a broker without guests and then with each of these numbers of guests. The baseline and
/// the library have separate brokers.
pub(super) async fn measure(guest_counts: &[usize]) -> Result<Vec<BrokerMemory>> {
    let (baseline, trove) = (measure_baseline(guest_counts).await?, measure_trove(guest_counts).await?);
    let guests = std::iter::once(&0).chain(guest_counts);
    Ok(guests
        .zip(baseline.into_iter().zip(trove))
        .map(|(guests, (baseline, trove))| BrokerMemory { guests: *guests, baseline, trove })
        .collect())
}

/// Measures the minimum for a guest: a connection, a queue and a consumer.
async fn measure_baseline(guest_counts: &[usize]) -> Result<Vec<f64>> {
    let broker = BrokerContainer::start(env!("CARGO_TARGET_TMPDIR"))?;
    broker.wait_until_ready().await?;
    let (uri, mut guests) = (format!("{}{URI_PARAMETERS}", broker.uri()), Vec::new());
    let mut measured = vec![idle_memory(&broker).await?];
    for count in guest_counts {
        while guests.len() < *count {
            let connection = Connection::connect(&uri, ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            let queue = format!("baseline.{}", guests.len());
            channel.queue_declare(queue.as_str().into(), durable, FieldTable::default()).await?;
            let options = BasicConsumeOptions::default();
            let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
            guests.push((connection, channel, consumer));
        }
        measured.push(idle_memory(&broker).await?);
    }
    Ok(measured)
}

/// Measures guests that have a broker user, a queue in each direction and an open session.
async fn measure_trove(guest_counts: &[usize]) -> Result<Vec<f64>> {
    let broker = BrokerContainer::start(env!("CARGO_TARGET_TMPDIR"))?;
    broker.wait_until_ready().await?;
    let ((endpoint, login), management) = (broker.control_login(), broker.management()?);
    let (control, mut guests) = (Amqp::new(endpoint.clone(), login), Vec::new());
    let mut measured = vec![idle_memory(&broker).await?];
    for count in guest_counts {
        while guests.len() < *count {
            let guest = Guest::create(&management, &control).await?;
            let control_end = ControlEnd::open(&control, &guest).await?;
            let guest_end = GuestEnd::serve(endpoint.clone(), guest)?;
            control_end.call(b"ping").await?;
            guests.push((control_end, guest_end));
        }
        measured.push(idle_memory(&broker).await?);
    }
    Ok(measured)
}

async fn idle_memory(broker: &BrokerContainer) -> Result<f64> {
    sleep(IDLE_TIME).await;
    Ok(broker.memory().await? / 1024.0)
}
