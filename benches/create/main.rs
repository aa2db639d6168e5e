//! The time to create a server, from the request to the result of the first query over TCP as its
//! new user.
//!
//! **Trove**: `Trove::create`, `active`, connect, query. The time includes everything else that the
//! library does: a journal on SQLite, an agent, a network that isolates instances, a read-only
//! container without capabilities, privileges inside the server.
//!
//! **Baseline**: the same image with the minimum of work. One container initializes the data
//! directory, another one serves on a loopback port; a database and a user are created over the
//! Unix socket; connect, query. The limits on memory and processors and the file system are the
//! same. It is measured twice: with the API of the Docker Engine, which is the strict comparison,
//! and with the `docker` command.
//!
//! **Cold** is the first instance on a platform. Later instances of MySQL and MariaDB start from a
//! copy of an initialized data directory, **template** in the table, and so does their baseline.
//!
//! **Results**: a ratio of 1.20 means that an instance takes 20 % longer than the baseline. The
//! second table lists when each milestone was reached, in seconds after the request.
//!
//! Each instance is the only one of its platform, so the network of the platform is created and
//! removed each time. The network of the baseline is created once, in advance.
//!
//! Options: `--rounds 5`, and `--mysql 0` to exclude an engine.
#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]

use std::{path::Path, process::ExitCode, time::Instant};

use futures_util::FutureExt;
use tokio::task::unconstrained;
use trove_benches::{
    Baseline, BenchHost, DockerClient, Engine, Options, Result, Sample, SqlClient, Table, Timeline, ratios, run,
};
use trove_core::{
    Trove,
    control::NewInstance,
    events::EventStream,
    model::{EventKind, Flavor, mib},
    time::{Timestamp, elapsed},
};

const PASSWORD: &str = "correct horse battery";

const API: &str = "API";
const COMMAND: &str = "docker command";

/// Selects one side of a comparison.
type Side = fn(&Comparison) -> &Timeline;

/// A baseline and an instance that were measured one after the other.
struct Comparison {
    case: &'static str,
    client: &'static str,
    baseline: Timeline,
    trove: Timeline,
}

fn main() -> ExitCode {
    // Outlives the runtime, because nothing may run on the host when it is dropped.
    let mut host = None;
    let outcome = run(async {
        let mut known = vec![("rounds", 5)];
        known.extend(Engine::OPTIONS);
        let options = Options::from_command_line(&known)?;
        let mut totals = Table::new(["create to first query", "baseline, s", "trove, s", "trove / baseline"]);
        let mut milestones = Table::new(["milestone", "seconds"]);
        for engine in Engine::selected(&options)? {
            let rounds = compare(&mut host, engine, options.count("rounds")).await?;
            summarize(engine, &rounds, &mut totals, &mut milestones);
        }
        println!("\n{totals}\n{milestones}");
        Ok(())
    });
    drop(host);
    outcome
}

async fn compare(slot: &mut Option<BenchHost>, engine: Engine, rounds: usize) -> Result<Vec<Vec<Comparison>>> {
    let mut measured = Vec::new();
    for round in 0..=rounds {
        // Only a new platform has no template.
        drop(slot.take());
        let comparisons = measure(slot.insert(BenchHost::new(env!("CARGO_TARGET_TMPDIR"), engine)?)).await?;
        // Warm-up: the files of the image are read from the disk.
        if round == 0 {
            continue;
        }
        for Comparison { case, client, baseline, trove } in &comparisons {
            println!(
                "round {round}: {engine}, {case}, {client}: baseline {:.2} s, trove {:.2} s",
                baseline.total(),
                trove.total()
            );
        }
        measured.push(comparisons);
    }
    Ok(measured)
}

/// Measures each comparison once.
async fn measure(host: &BenchHost) -> Result<Vec<Comparison>> {
    let trove = host.start().await?;
    // The default flavor.
    let flavor = trove.flavors().first().cloned().unwrap_or_else(|| Flavor::new("small", mib(512), 1));
    let api = Baseline::new(host, &flavor, DockerClient::api()?, PASSWORD);
    let command = Baseline::new(host, &flavor, DockerClient::Command, PASSWORD);
    Baseline::create_network(host).await?;
    let with_api = create_server(&api, None).await?;
    let cold = create_instance(&trove, host.engine()).await?;
    let with_command = create_server(&command, None).await?;
    let mut comparisons = vec![
        Comparison { case: "cold", client: API, baseline: with_api, trove: cold.clone() },
        Comparison { case: "cold", client: COMMAND, baseline: with_command, trove: cold },
    ];
    if host.engine().has_template() {
        let template = api.create_template("template").await?;
        let baseline = create_server(&api, Some(&template)).await?;
        let instance = create_instance(&trove, host.engine()).await?;
        comparisons.push(Comparison { case: "template", client: API, baseline, trove: instance });
    }
    trove.shut_down().await;
    Ok(comparisons)
}

fn summarize(engine: Engine, rounds: &[Vec<Comparison>], totals: &mut Table, milestones: &mut Table) {
    let Some(first) = rounds.first() else { return };
    for (number, Comparison { case, client, .. }) in first.iter().enumerate() {
        let comparisons = || rounds.iter().filter_map(|comparisons| comparisons.get(number));
        let seconds = |side: Side| comparisons().map(|comparison| side(comparison).total()).collect::<Vec<_>>();
        let (baseline, trove) = (seconds(|both| &both.baseline), seconds(|both| &both.trove));
        let ratio = ratios(&trove, &baseline).to_string();
        let [baseline, trove] = [baseline, trove].map(|side| Sample::from_iter(side).to_string());
        totals.row([format!("{engine}, {case}, {client}"), baseline, trove, ratio]);
        let mut sides = vec![(*client, (|both| &both.baseline) as Side)];
        // Both baselines are compared with the same instance.
        if *client == API {
            sides.push(("trove", |both| &both.trove));
        }
        for (name, side) in sides {
            let first = comparisons().next().into_iter().flat_map(|both| side(both).milestones());
            for (position, (milestone, _)) in first.enumerate() {
                let times = comparisons().filter_map(|both| side(both).milestones().nth(position));
                let times: Sample = times.map(|(_, seconds)| seconds).collect();
                milestones.row([format!("{engine}, {case}, {name}: {milestone}"), times.to_string()]);
            }
        }
    }
}

/// Creates a baseline server and removes it.
async fn create_server(baseline: &Baseline<'_>, template: Option<&Path>) -> Result<Timeline> {
    let mut timeline = Timeline::start();
    let server = baseline.create("server", template, &mut timeline).await?;
    server.remove().await?;
    Ok(timeline)
}

/// Creates an instance as an embedder does, runs a query, and deletes it.
async fn create_instance(trove: &Trove, engine: Engine) -> Result<Timeline> {
    let new = NewInstance::new("bench", engine.name()).database("app").user("app", PASSWORD);
    let events = trove.events();
    let (requested, started, mut timeline) = (Timestamp::now(), Instant::now(), Timeline::start());
    let instance = trove.create(new).await?.active().await?;
    let active = started.elapsed();
    let endpoint = instance.endpoint.clone().ok_or("an active instance has no endpoint")?;
    SqlClient::connect(engine, &endpoint, "app", "app", PASSWORD).await?.query("SELECT 1").await?;
    let queried = started.elapsed();
    record_events(events, requested, &mut timeline);
    timeline.record_at("active", active);
    timeline.record_at("first query", queried);
    instance.delete().await?.wait().await?;
    Ok(timeline)
}

/// Records the events received so far. A step that waits is entered repeatedly and recorded once.
fn record_events(mut events: EventStream, requested: Timestamp, timeline: &mut Timeline) {
    // Otherwise tokio's cooperative budget could end the loop early.
    while let Some(Some(event)) = unconstrained(events.next()).now_or_never() {
        let milestone = match event.kind {
            EventKind::Step { step, .. } => format!("step {step}"),
            EventKind::Progress { progress, .. } => progress.phase,
            EventKind::Ended { .. } => "ended".to_owned(),
            _ => continue,
        };
        timeline.record_at(&milestone, elapsed(requested, event.at));
    }
}
