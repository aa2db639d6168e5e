//! What a guest that says nothing costs the broker.

use std::time::Duration;

use lapin::{
    Connection, ConnectionProperties,
    options::{BasicConsumeOptions, QueueDeclareOptions},
    types::FieldTable,
};
use serde::Serialize;
use tokio::time::sleep;
use trove_benches::Result;
use trove_core::rpc::Amqp;

use crate::{
    broker::Broker,
    floor::QUERY,
    ours::{Control, Guest, Identity},
};

/// How long the broker rests before it is looked at.
const REST: Duration = Duration::from_secs(15);

/// The broker's memory in KiB.
#[derive(Serialize)]
pub(super) struct Memory {
    pub(super) guests: usize,
    pub(super) floor: f64,
    pub(super) ours: f64,
}

/// Looks at a broker without guests and then with these many of each kind. Each kind has a broker of its own.
pub(super) async fn measure(many: &[usize]) -> Result<Vec<Memory>> {
    let (floor, ours) = (floor(many).await?, ours(many).await?);
    let counted = std::iter::once(&0).chain(many);
    Ok(counted
        .zip(floor.into_iter().zip(ours))
        .map(|(guests, (floor, ours))| Memory { guests: *guests, floor, ours })
        .collect())
}

/// As few things as a guest can do with: a connection, a queue, a receiver.
async fn floor(many: &[usize]) -> Result<Vec<f64>> {
    let broker = Broker::start()?;
    broker.serves().await?;
    let (uri, mut guests) = (format!("{}{QUERY}", broker.uri()), Vec::new());
    let mut used = vec![rested(&broker).await?];
    for many in many {
        while guests.len() < *many {
            let connection = Connection::connect(&uri, ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            let queue = format!("floor.{}", guests.len());
            channel.queue_declare(queue.as_str().into(), durable, FieldTable::default()).await?;
            let options = BasicConsumeOptions::default();
            let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
            guests.push((connection, channel, consumer));
        }
        used.push(rested(&broker).await?);
    }
    Ok(used)
}

/// A user of its own, a mailbox in each direction, a sealed line that stands.
async fn ours(many: &[usize]) -> Result<Vec<f64>> {
    let broker = Broker::start()?;
    broker.serves().await?;
    let ((place, login), management) = (broker.control(), broker.management()?);
    let (control, mut guests) = (Amqp::new(place.clone(), login), Vec::new());
    let mut used = vec![rested(&broker).await?];
    for many in many {
        while guests.len() < *many {
            let identity = Identity::make(&management, &control).await?;
            let line = Control::open(&control, &identity).await?;
            let guest = Guest::serve(place.clone(), identity)?;
            line.call(b"there?").await?;
            guests.push((line, guest));
        }
        used.push(rested(&broker).await?);
    }
    Ok(used)
}

async fn rested(broker: &Broker) -> Result<f64> {
    sleep(REST).await;
    Ok(broker.memory().await? / 1024.0)
}
