//! What a process pays for the service it embeds: memory and processor time, for one instance and for a thousand.
//!
//! Instances are simulated (`conformance::memory`), so that what is counted is the library's own: an agent each that
//! looks at its server and reports, the journal, the store on SQLite on disk. A real driver adds a session with each
//! server and what its container costs on the host.
//!
//! **Floor**: the same program with a runtime that does nothing, and with one instance. Each measurement is a process of
//! its own, since an allocator remembers.
//!
//! **To read**: `active` is the resident memory when all instances have been created and seen serving, `idle` is ten
//! seconds later, `peak` is the most that ever was. `CPU` is what the process then uses in a minute of rest. The line
//! below shares out what a thousand instances take more than one.
//!
//! The simulated servers live in the same process and are counted in.
//!
//! **Servers**: what an idle server of each engine and flavor uses in its container, without the file cache that rests;
//! **bare** is the same image under the same limits with the server's own defaults, made as barely as can be. A server
//! of ours is given settings that fit its flavor, so its ratio says what became of the flavor, not that it is wasteful.
//!
//! Options: `--rounds 3 --instances 1000 --seconds 30`, the last for how long the processor is watched and a server
//! rests; `--mysql 0` to leave an engine out.
#![allow(clippy::print_stdout, reason = "its result is what it prints")]

mod servers;

use std::{
    env,
    process::{self, ExitCode, Stdio},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::{process::Command, time::sleep};
use trove_benches::{Engine, Options, Result, Sample, Table, memory_of, processor_time, run};
use trove_core::{Trove, conformance::memory::World, control::NewInstance};

/// How long a process rests before it counts as idle.
const REST: Duration = Duration::from_secs(10);

/// Tells a process of this program which scenario is its own: how many instances, or none for the bare runtime.
const CHILD: &str = "TROVE_BENCH_INSTANCES";

/// What a process used: memory in KiB, time in seconds.
#[derive(Serialize, Deserialize)]
struct Usage {
    active: f64,
    idle: f64,
    peak: f64,
    cpu_per_minute: f64,
}

fn main() -> ExitCode {
    // Made out here so that it is cleared after everything that works in it has ended.
    let mut site = None;
    let outcome = run(async {
        let mut known = vec![("rounds", 3), ("instances", 1000), ("seconds", 30)];
        known.extend(Engine::OPTIONS);
        let options = Options::from_command_line(&known)?;
        let watch = Duration::from_secs(options.get("seconds").max(1));
        match env::var(CHILD) {
            Ok(instances) => {
                println!("{}", serde_json::to_string(&measure(instances.parse()?, watch).await?)?);
                Ok(())
            }
            Err(_) => {
                compare(options.count("rounds"), options.count("instances").max(2)).await?;
                // Without an image there are no servers, which was said then.
                servers::compare(&mut site, &Engine::wanted(&options).unwrap_or_default(), watch).await
            }
        }
    });
    drop(site);
    outcome
}

async fn compare(rounds: usize, many: usize) -> Result<()> {
    let scenarios = [0, 1, many];
    let mut usages = scenarios.map(|_| Vec::new());
    for round in 1..=rounds {
        for (instances, usages) in scenarios.iter().zip(&mut usages) {
            let usage = child(*instances).await?;
            println!("round {round}: {instances} instances, {:.0} KiB idle", usage.idle);
            usages.push(usage);
        }
    }
    let [_, one, all] = &usages;
    let mut table = Table::new(["instances", "active KiB", "idle KiB", "peak KiB", "CPU s/min"]);
    for (instances, usages) in scenarios.iter().zip(&usages) {
        let of = |what: fn(&Usage) -> f64| usages.iter().map(what).collect::<Sample>();
        let name = if *instances == 0 { "none, bare runtime".to_owned() } else { instances.to_string() };
        let memory = [of(|usage| usage.active), of(|usage| usage.idle), of(|usage| usage.peak)];
        let [active, idle, peak] = memory.map(|sample| format!("{sample:.0}"));
        table.row([name, active, idle, peak, format!("{:.3}", of(|usage| usage.cpu_per_minute))]);
    }
    println!("\n{table}");
    let more = f64::from(u32::try_from(many - 1)?);
    let each = |what: fn(&Usage) -> f64| -> Sample {
        all.iter().zip(one).map(|(all, one)| (what(all) - what(one)) / more).collect()
    };
    let cpu: Sample =
        all.iter().zip(one).map(|(all, one)| (all.cpu_per_minute - one.cpu_per_minute) / more * 1e3).collect();
    println!("each further instance, idle: {:.2} KiB, {cpu:.2} ms of CPU a minute", each(|usage| usage.idle));
    println!("each further instance, peak: {:.2} KiB", each(|usage| usage.peak));
    Ok(())
}

/// Measures in a process of its own.
async fn child(instances: usize) -> Result<Usage> {
    let mut command = Command::new(env::current_exe()?);
    command.args(env::args().skip(1)).env(CHILD, instances.to_string());
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true).output().await?;
    if !output.status.success() {
        return Err(format!("the process with {instances} instances ended with {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

async fn measure(instances: usize, watch: Duration) -> Result<Usage> {
    let directory = TempDir::with_prefix_in("bench-", env!("CARGO_TARGET_TMPDIR"))?;
    let trove = if instances == 0 { None } else { Some(populate(&directory, instances).await?) };
    let active = memory_of(process::id(), "VmRSS")?;
    sleep(REST).await;
    let idle = memory_of(process::id(), "VmRSS")?;
    let before = processor_time();
    sleep(watch).await;
    let cpu_per_minute = (processor_time() - before) / watch.as_secs_f64() * 60.0;
    let peak = memory_of(process::id(), "VmHWM")?;
    if let Some(trove) = trove {
        trove.shut_down().await;
    }
    Ok(Usage { active, idle, peak, cpu_per_minute })
}

/// A service with this many instances, each seen serving.
async fn populate(directory: &TempDir, instances: usize) -> Result<Trove> {
    let (world, store) = (World::new(), directory.path().join("trove.db"));
    let service = Trove::builder().store(format!("sqlite:{}", store.display()));
    let trove = service.platform(world.platform()).datastore(world.driver()).start().await?;
    let mut begun = Vec::with_capacity(instances);
    for number in 0..instances {
        let new = NewInstance::new(format!("bench-{number}"), "memory").database("app").user("app", "correct horse");
        begun.push(trove.create(new).await?);
    }
    for creation in begun {
        creation.active().await?;
    }
    Ok(trove)
}
