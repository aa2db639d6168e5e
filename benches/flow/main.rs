//! The cost of a step of a durable operation, compared with the commit that makes it durable.
//!
//! **Trove**: the flow engine with operations of ten steps that do nothing. The engine claims each
//! operation, runs its steps, writes the journal after each, and writes the end together with the
//! instance, until all operations have succeeded.
//!
//! **Baseline**: the same number of single-row `UPDATE` statements, each in its own transaction,
//! with sqlx on the same database, the same durability and number of connections, prepared
//! statements, and without the pool's test of a connection before each use.
//!
//! **Results**: a ratio of 1.50 means that a step takes 50 % longer than a commit. On SQLite with
//! one concurrent operation the minimum is 1.1, because a claim is a commit too. The second table
//! lists the journal calls that the engine waited for, per step; the rest of the time was spent in
//! the engine itself.
//!
//! The concurrency is that of operations, and in the baseline that of tasks. SQLite has one writer;
//! the store on PostgreSQL has eight connections to a server that the library itself runs. Without
//! an image in `TROVE_IMAGE_POSTGRESQL_17` only SQLite is measured.
//!
//! Options: `--rounds 21 --flows 48`.
#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]

mod baseline;

use std::process::ExitCode;

use baseline::CommitBaseline;
use tempfile::TempDir;
use trove_benches::{BenchHost, Engine, Options, Result, Sample, StoreServer, Table, ratios, run};
use trove_core::bench::{FlowWorkload, JournalCalls};

const CONCURRENCIES: [usize; 2] = [1, 16];

fn main() -> ExitCode {
    // Outlives the runtime, because nothing may run on the host when it is dropped.
    let mut host = None;
    let outcome = run(async {
        let options = Options::from_command_line(&[("rounds", 21), ("flows", 48)])?;
        let size = Size { rounds: options.count("rounds"), flows: options.count("flows") };
        sqlite(size).await?;
        match BenchHost::new(env!("CARGO_TARGET_TMPDIR"), Engine::PostgreSql) {
            Ok(created) => postgresql(host.insert(created), size).await,
            Err(error) => {
                println!("PostgreSQL is skipped: {error}");
                Ok(())
            }
        }
    });
    drop(host);
    outcome
}

/// The size of the benchmark.
#[derive(Clone, Copy)]
struct Size {
    rounds: usize,
    flows: usize,
}

async fn sqlite(size: Size) -> Result<()> {
    let directory = TempDir::with_prefix_in("bench-", env!("CARGO_TARGET_TMPDIR"))?;
    let path = directory.path().join("trove.db");
    let workload = FlowWorkload::connect(&format!("sqlite:{}", path.display())).await?;
    let baseline = CommitBaseline::sqlite(&path).await?;
    compare("SQLite", &workload, &baseline, size).await?;
    workload.close().await;
    Ok(())
}

async fn postgresql(host: &BenchHost, size: Size) -> Result<()> {
    let server = StoreServer::start(host).await?;
    let workload = FlowWorkload::connect(server.url()).await?;
    let baseline = CommitBaseline::postgres(server.url()).await?;
    compare("PostgreSQL", &workload, &baseline, size).await?;
    workload.close().await;
    server.stop().await
}

async fn compare(database: &str, workload: &FlowWorkload, baseline: &CommitBaseline, size: Size) -> Result<()> {
    let steps = size.flows * FlowWorkload::STEPS;
    let mut table = Table::new([database, "commits/s", "steps/s", "step µs", "step / commit"]);
    let mut shares = Table::new(["per step, µs", "claim", "record", "next due", "engine", "claims", "next due calls"]);
    for concurrency in CONCURRENCIES {
        // Warm-up: statements are prepared, files grow.
        workload.run(concurrency, concurrency).await?;
        let (mut commit_times, mut run_times, mut total_calls) = (Vec::new(), Vec::new(), JournalCalls::default());
        for _ in 0..size.rounds {
            commit_times.push(baseline.commit(steps, concurrency).await?.as_secs_f64());
            let (duration, calls) = workload.run(size.flows, concurrency).await?;
            run_times.push(duration.as_secs_f64());
            total_calls.add(&calls);
        }
        let sample = |times: &[f64], f: &dyn Fn(f64) -> f64| times.iter().map(|time| f(*time)).collect::<Sample>();
        let count = f64::from(u32::try_from(steps)?);
        table.row([
            format!("{concurrency} concurrent"),
            format!("{:.0}", sample(&commit_times, &|time| count / time)),
            format!("{:.0}", sample(&run_times, &|time| count / time)),
            format!("{:.0}", sample(&run_times, &|time| time / count * 1e6)),
            ratios(&run_times, &commit_times).to_string(),
        ]);
        let total_steps = count * f64::from(u32::try_from(size.rounds)?);
        shares.row(time_per_step(concurrency, &total_calls, run_times.iter().sum(), total_steps));
    }
    println!("\n{table}\n{shares}");
    Ok(())
}

/// Returns a row with the time per step in each journal call and in the engine. Concurrent
/// operations wait at the same time, so their calls add up to more than the elapsed time.
fn time_per_step(concurrency: usize, calls: &JournalCalls, seconds: f64, steps: f64) -> [String; 7] {
    let micros = |seconds: f64| format!("{:.0}", seconds / steps * 1e6);
    let times = [calls.claim, calls.record, calls.next_due].map(|(_, time)| time.as_secs_f64());
    let engine = if concurrency == 1 { micros(seconds - times.iter().sum::<f64>()) } else { "-".to_owned() };
    let [claim, record, next_due] = times.map(micros);
    let per_step = |count: u32| format!("{:.2}", f64::from(count) / steps);
    let (claims, next_due_calls) = (per_step(calls.claim.0), per_step(calls.next_due.0));
    [format!("{concurrency} concurrent"), claim, record, next_due, engine, claims, next_due_calls]
}
