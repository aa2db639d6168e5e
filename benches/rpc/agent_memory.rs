//! The memory of a guest agent that runs as a process beside an idle server.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;
use tokio::{process::Command, time::sleep};
use trove_benches::{BenchHost, BrokerContainer, Engine, Result, process_memory};
use trove_core::{control::NewInstance, rpc::RabbitMq};

/// How long the agent is idle before its memory is measured.
const IDLE_TIME: Duration = Duration::from_secs(30);

/// The memory of an agent in KiB.
#[derive(Serialize)]
pub(super) struct AgentMemory {
    pub(super) resident: f64,
    /// Anonymous memory: without the pages of the program and its libraries, which all agents of a
    /// machine share.
    pub(super) private: f64,
}

/// Measures the agent of a PostgreSQL server.
pub(super) async fn measure(slot: &mut Option<BenchHost>) -> Result<AgentMemory> {
    let broker = BrokerContainer::start(env!("CARGO_TARGET_TMPDIR"))?;
    broker.wait_until_ready().await?;
    let program = build_agent().await?;
    let host = slot.insert(BenchHost::with_agents(env!("CARGO_TARGET_TMPDIR"), Engine::PostgreSql, &program)?);
    let (endpoint, login) = broker.control_login();
    let trove = host.builder().message_broker(RabbitMq::new(endpoint, login, broker.management()?)).start().await?;
    let instance = trove.create(NewInstance::new("bench", "postgresql")).await?.active().await?;
    sleep(IDLE_TIME).await;
    let lock = host.path().join(format!("root/guests/{}/agent.lock", instance.id));
    let pid = fs::read_to_string(lock)?.parse()?;
    let memory = AgentMemory { resident: process_memory(pid, "VmRSS")?, private: process_memory(pid, "RssAnon")? };
    instance.delete().await?.wait().await?;
    trove.shut_down().await;
    Ok(memory)
}

/// Builds the agent with the release profile and returns the path of the program.
async fn build_agent() -> Result<PathBuf> {
    let status =
        Command::new(env!("CARGO")).args(["build", "--release", "--package", "trove-guestagent"]).status().await?;
    if !status.success() {
        return Err("could not build the guest agent".into());
    }
    Ok(Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("release").join("trove-guestagent"))
}
