//! What a guest agent in a process of its own uses beside an idle server.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;
use tokio::{process::Command, time::sleep};
use trove_benches::{Engine, Result, Site, memory_of};
use trove_core::{control::NewInstance, rpc::RabbitMq};

use crate::broker::Broker;

/// How long it rests before it is looked at.
const REST: Duration = Duration::from_secs(30);

/// In KiB.
#[derive(Serialize)]
pub(super) struct Memory {
    pub(super) resident: f64,
    /// Without the pages of the program and its libraries, which all agents of a machine share.
    pub(super) own: f64,
}

/// Has an agent look after a server of PostgreSQL.
pub(super) async fn measure(slot: &mut Option<Site>) -> Result<Memory> {
    let broker = Broker::start()?;
    broker.serves().await?;
    let site = slot.insert(Site::with_agents(env!("CARGO_TARGET_TMPDIR"), Engine::PostgreSql, &program().await?)?);
    let (place, login) = broker.control();
    let trove = site.service().message_broker(RabbitMq::new(place, login, broker.management()?)).start().await?;
    let instance = trove.create(NewInstance::new("bench", "postgresql")).await?.active().await?;
    sleep(REST).await;
    let lock = site.path().join(format!("root/guests/{}/agent.lock", instance.id));
    let process = fs::read_to_string(lock)?.parse()?;
    let memory = Memory { resident: memory_of(process, "VmRSS")?, own: memory_of(process, "RssAnon")? };
    instance.delete().await?.wait().await?;
    trove.shut_down().await;
    Ok(memory)
}

/// The agent as a release of it is.
async fn program() -> Result<PathBuf> {
    let built =
        Command::new(env!("CARGO")).args(["build", "--release", "--package", "trove-guestagent"]).status().await?;
    if !built.success() {
        return Err("the guest agent cannot be built".into());
    }
    Ok(Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("release").join("trove-guestagent"))
}
