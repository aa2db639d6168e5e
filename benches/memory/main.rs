//! The memory and CPU time of a process that embeds the service, with one instance and with a
//! thousand.
//!
//! Instances are simulated (`conformance::memory`), so the numbers are those of the library itself:
//! for each instance an agent that observes its server and reports, the journal, the store on
//! SQLite on disk. A real driver adds a session with each server, and the container on the host.
//! The simulated servers live in the same process and are included.
//!
//! **Baseline**: the same program with an idle runtime, and with one instance. Each measurement
//! runs in a separate process, because allocators keep freed memory.
//!
//! **Results**: `active` is the resident memory when all instances are active, `idle` that ten
//! seconds later, `peak` the maximum. `CPU` is the CPU time per minute while idle. The lines below
//! the table divide the difference between one instance and all by their number.
//!
//! **Servers**: the memory of an idle server for each engine and flavor, in its container, without
//! the inactive file cache. The **baseline** has the same image and limits and the server's default
//! settings. The library gives a server settings that fit its flavor, so the ratio shows how the
//! flavor is used, not overhead.
//!
//! Options: `--rounds 3 --instances 1000 --seconds 30`, the last for the time over which CPU time
//! is measured and a server is idle; `--mysql 0` to exclude an engine.
#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]

mod servers;

use std::{
    env,
    process::{self, ExitCode, Stdio},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::{process::Command, time::sleep};
use trove_benches::{Engine, Options, Result, Sample, Table, process_cpu_time, process_memory, run};
use trove_core::{Trove, conformance::memory::World, control::NewInstance};

/// How long a process does nothing before it counts as idle.
const IDLE_TIME: Duration = Duration::from_secs(10);

/// The environment variable with the number of instances of a child process; 0 is the idle runtime.
const INSTANCES_VARIABLE: &str = "TROVE_BENCH_INSTANCES";

/// The resource usage of a process: memory in KiB, time in seconds.
#[derive(Serialize, Deserialize)]
struct Usage {
    active: f64,
    idle: f64,
    peak: f64,
    cpu_per_minute: f64,
}

fn main() -> ExitCode {
    // Outlives the runtime, because nothing may run on the host when it is dropped.
    let mut host = None;
    let outcome = run(async {
        let mut known = vec![("rounds", 3), ("instances", 1000), ("seconds", 30)];
        known.extend(Engine::OPTIONS);
        let options = Options::from_command_line(&known)?;
        let duration = Duration::from_secs(options.get("seconds").max(1));
        match env::var(INSTANCES_VARIABLE) {
            Ok(instances) => {
                println!("{}", serde_json::to_string(&measure(instances.parse()?, duration).await?)?);
                Ok(())
            }
            Err(_) => {
                compare(options.count("rounds"), options.count("instances").max(2)).await?;
                // Without any image, `selected` has printed the reason.
                let engines = Engine::selected(&options).unwrap_or_default();
                servers::compare(&mut host, &engines, duration).await
            }
        }
    });
    drop(host);
    outcome
}

async fn compare(rounds: usize, instances: usize) -> Result<()> {
    let scenarios = [0, 1, instances];
    let mut usages = scenarios.map(|_| Vec::new());
    for round in 1..=rounds {
        for (instances, usages) in scenarios.iter().zip(&mut usages) {
            let usage = measure_in_child(*instances).await?;
            println!("round {round}: {instances} instances, {:.0} KiB idle", usage.idle);
            usages.push(usage);
        }
    }
    let [_, one, all] = &usages;
    let mut table = Table::new(["instances", "active KiB", "idle KiB", "peak KiB", "CPU s/min"]);
    for (instances, usages) in scenarios.iter().zip(&usages) {
        let sample = |field: fn(&Usage) -> f64| usages.iter().map(field).collect::<Sample>();
        let name = if *instances == 0 { "none, idle runtime".to_owned() } else { instances.to_string() };
        let memory = [sample(|usage| usage.active), sample(|usage| usage.idle), sample(|usage| usage.peak)];
        let [active, idle, peak] = memory.map(|kib| format!("{kib:.0}"));
        table.row([name, active, idle, peak, format!("{:.3}", sample(|usage| usage.cpu_per_minute))]);
    }
    println!("\n{table}");
    let additional = f64::from(u32::try_from(instances - 1)?);
    let per_instance = |field: fn(&Usage) -> f64| -> Sample {
        all.iter().zip(one).map(|(all, one)| (field(all) - field(one)) / additional).collect()
    };
    let (idle, cpu) = (per_instance(|usage| usage.idle), per_instance(|usage| usage.cpu_per_minute * 1e3));
    println!("each additional instance, idle: {idle:.2} KiB, {cpu:.2} ms of CPU time per minute");
    println!("each additional instance, peak: {:.2} KiB", per_instance(|usage| usage.peak));
    Ok(())
}

/// Measures in a child process.
async fn measure_in_child(instances: usize) -> Result<Usage> {
    let mut command = Command::new(env::current_exe()?);
    command.args(env::args().skip(1)).env(INSTANCES_VARIABLE, instances.to_string());
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true).output().await?;
    if !output.status.success() {
        return Err(format!("the process with {instances} instances failed with {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

async fn measure(instances: usize, duration: Duration) -> Result<Usage> {
    let directory = TempDir::with_prefix_in("bench-", env!("CARGO_TARGET_TMPDIR"))?;
    let trove = if instances == 0 { None } else { Some(populate(&directory, instances).await?) };
    let active = process_memory(process::id(), "VmRSS")?;
    sleep(IDLE_TIME).await;
    let idle = process_memory(process::id(), "VmRSS")?;
    let before = process_cpu_time();
    sleep(duration).await;
    let cpu_per_minute = (process_cpu_time() - before) / duration.as_secs_f64() * 60.0;
    let peak = process_memory(process::id(), "VmHWM")?;
    if let Some(trove) = trove {
        trove.shut_down().await;
    }
    Ok(Usage { active, idle, peak, cpu_per_minute })
}

/// Starts a service and creates this number of instances.
async fn populate(directory: &TempDir, instances: usize) -> Result<Trove> {
    let (world, store) = (World::new(), directory.path().join("trove.db"));
    let builder = Trove::builder().store(format!("sqlite:{}", store.display()));
    let trove = builder.platform(world.platform()).datastore(world.driver()).start().await?;
    let mut creations = Vec::with_capacity(instances);
    for number in 0..instances {
        let new = NewInstance::new(format!("bench-{number}"), "memory").database("app").user("app", "correct horse");
        creations.push(trove.create(new).await?);
    }
    for creation in creations {
        creation.active().await?;
    }
    Ok(trove)
}
