//! The effect of guests that flood the control plane with reports on it and on other instances.
//!
//! **Attack**: three guests send reports of a megabyte each, 75 a second in all, over RabbitMQ. They
//! are a process of their own, with the keys and broker logins of their instances.
//!
//! **Baseline**: the same service in the same run, without the attack.
//!
//! **Results**: by how much the memory of the control plane grew, how old the oldest report of
//! another instance became, and how long restarts took. One half of the other instances is
//! restarted all the time; nothing happens to the other half, whose agents report every five
//! seconds. The agents of both run in this process. The benchmark fails if a restart fails, if a
//! report becomes older than ten seconds, or if the memory grows by 64 MiB.
//!
//! Options: `--seconds 30 --instances 20 --rate 75`.
#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]

mod hostile_guests;
mod platform;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use hostile_guests::Attack;
use platform::{REMOTE, RemoteAgents};
use tempfile::TempDir;
use tokio::time::sleep;
use trove_benches::{BrokerContainer, Options, Result, Sample, Table, process_memory, run};
use trove_core::{
    Trove,
    conformance::memory::World,
    control::{InstanceHandle, NewInstance},
    guest::AgentSettings,
    rpc::RabbitMq,
    time::{Timestamp, elapsed},
};

const ATTACKERS: usize = 3;
const REPORT_EVERY: Duration = Duration::from_secs(5);
const MAX_AGE: Duration = Duration::from_secs(10);
const MAX_GROWTH_MIB: f64 = 64.0;
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    run(async {
        if hostile_guests::is_current() {
            return hostile_guests::attack().await;
        }
        let options = Options::from_command_line(&[("seconds", 30), ("instances", 20), ("rate", 75)])?;
        let broker = BrokerContainer::start(env!("CARGO_TARGET_TMPDIR"))?;
        broker.wait_until_ready().await?;
        compare(&options, &broker).await
    })
}

async fn compare(options: &Options, broker: &BrokerContainer) -> Result<()> {
    let (directory, world) = (TempDir::with_prefix_in("bench-", env!("CARGO_TARGET_TMPDIR"))?, World::new());
    let agents = RemoteAgents::new(&world, directory.path().join("agents"));
    let (endpoint, login) = broker.control_login();
    let trove = Trove::builder()
        .message_broker(RabbitMq::new(endpoint, login, broker.management()?))
        .store(format!("sqlite:{}", directory.path().join("trove.db").display()))
        .platform(agents.platform())
        .datastore(world.driver())
        .guest_settings(AgentSettings { report_every: REPORT_EVERY, ..AgentSettings::default() })
        .start()
        .await?;
    let others = create(&trove, "other", options.count("instances")).await?;
    let hostile = create(&trove, REMOTE, ATTACKERS).await?;
    let identities = try_join_all(hostile.iter().map(|instance| agents.take_over(instance.id))).await?;
    let period = Duration::from_secs(options.get("seconds"));
    // The first restarts grow the memory once.
    observe(&trove, &others, period / 4).await?;

    let baseline = observe(&trove, &others, period).await?;
    let attack = Attack::start(identities, options.get("rate").max(1)).await?;
    let attacked = observe(&trove, &others, period).await?;
    let sent = attack.sent();
    drop(attack);

    let title = "reports of attackers";
    let mut table = Table::new(["", title, "memory grew by, MiB", "oldest report, s", "restart, ms", "restarts"]);
    for (name, sent, seen) in [("attack", sent, &attacked), ("without", 0, &baseline)] {
        let restarts = seen.restarts.len().to_string();
        let restart = format!("{:.0}", seen.restarts.iter().copied().collect::<Sample>());
        table.row([
            name.to_owned(),
            sent.to_string(),
            format!("{:.1}", seen.growth),
            format!("{:.1}", seen.oldest.as_secs_f64()),
            restart,
            restarts,
        ]);
    }
    println!("\n{table}");
    if attacked.growth >= MAX_GROWTH_MIB || attacked.oldest >= MAX_AGE {
        return Err("the attack affected other instances or the control plane".into());
    }
    for instance in others.iter().chain(&hostile) {
        instance.delete().await?.wait().await?;
    }
    trove.shut_down().await;
    Ok(())
}

async fn create(trove: &Trove, name: &str, count: usize) -> Result<Vec<InstanceHandle>> {
    let created = (0..count).map(|number| async move {
        let new = NewInstance::new(format!("{name}-{number}"), "memory");
        trove.create(new).await?.active().await
    });
    Ok(try_join_all(created).await?)
}

/// The measurements of a period.
struct Observation {
    /// By how much the memory of this process grew, in MiB.
    growth: f64,
    /// The greatest age of a report.
    oldest: Duration,
    /// The durations of restarts in milliseconds.
    restarts: Vec<f64>,
}

/// Restarts one half of the instances in turn, and watches the memory and the reports of the others.
async fn observe(trove: &Trove, instances: &[InstanceHandle], period: Duration) -> Result<Observation> {
    let (restarted, idle) = instances.split_at(instances.len() / 2);
    let (started, before) = (Instant::now(), memory()?);
    let restarts = async {
        let mut took = Vec::new();
        for instance in restarted.iter().cycle().take_while(|_| started.elapsed() < period) {
            let since = Instant::now();
            instance.restart().await?.wait().await?;
            took.push(since.elapsed().as_secs_f64() * 1000.0);
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(took)
    };
    let watch = async {
        let (mut growth, mut oldest) = (0.0_f64, Duration::ZERO);
        while started.elapsed() < period {
            growth = growth.max(memory()? - before);
            for instance in idle {
                let seen = trove.instance(instance.id).await?;
                let reported = seen.reported_at.ok_or("an instance has not reported")?;
                oldest = oldest.max(elapsed(reported, Timestamp::now()));
            }
            sleep(SAMPLE_INTERVAL).await;
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((growth, oldest))
    };
    let (restarts, (growth, oldest)) = tokio::try_join!(restarts, watch)?;
    Ok(Observation { growth, oldest, restarts })
}

/// Returns the resident memory of this process in MiB.
fn memory() -> Result<f64> {
    Ok(process_memory(std::process::id(), "VmRSS")? / 1024.0)
}
