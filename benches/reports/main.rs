//! The cost of storing the reports of guests, compared with the statement that stores them.
//!
//! **Trove**: the conductor with the reports of all instances, evenly spread over the interval at
//! which agents report. Each report has another disk usage than the former one, and one in a hundred
//! another health. The reports come from this process, without RPC.
//!
//! **Baseline**: one `UPDATE` statement for the disk usage and the time of 256 instances at once, in
//! the same database and at the same rate, with sqlx and prepared statements.
//!
//! **Results**: the share of a processor that this process and the database server use. On SQLite,
//! where both are one process, the table has what the store can take without a pause.
//!
//! The PostgreSQL server is one that the library itself runs. Without an image in
//! `TROVE_IMAGE_POSTGRESQL_17` only SQLite is measured.
//!
//! Options: `--rounds 5 --instances 100000 --seconds 30`.
#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]

mod baseline;

use std::{process::ExitCode, time::Duration};

use baseline::UpdateBaseline;
use tempfile::TempDir;
use trove_benches::{
    BenchHost, Engine, Options, Result, Sample, StoreServer, Table, container_cpu_time, process_cpu_time, ratios, run,
};
use trove_core::bench::ReportWorkload;

fn main() -> ExitCode {
    // Outlives the runtime, because nothing may run on the host when it is dropped.
    let mut host = None;
    let outcome = run(async {
        let options = Options::from_command_line(&[("rounds", 5), ("instances", 100_000), ("seconds", 30)])?;
        let size = Size {
            rounds: u64::try_from(options.count("rounds"))?,
            instances: options.count("instances"),
            period: Duration::from_secs(u64::try_from(options.count("seconds"))?),
        };
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
    rounds: u64,
    instances: usize,
    period: Duration,
}

async fn sqlite(size: Size) -> Result<()> {
    let directory = TempDir::with_prefix_in("bench-", env!("CARGO_TARGET_TMPDIR"))?;
    let url = format!("sqlite:{}", directory.path().join("trove.db").display());
    let instances = size.instances.min(10_000);
    let workload = ReportWorkload::connect(&url, instances).await?;
    let mut rates = Vec::new();
    for round in 0..size.rounds {
        let took = workload.run(Duration::ZERO, round).await?;
        rates.push(f64::from(u32::try_from(instances)?) / took.as_secs_f64());
    }
    let mut table = Table::new(["SQLite", "reports/s"]);
    table.row([format!("{instances} instances at once"), format!("{:.0}", rates.into_iter().collect::<Sample>())]);
    println!("\n{table}");
    workload.close().await;
    Ok(())
}

async fn postgresql(host: &BenchHost, size: Size) -> Result<()> {
    let server = StoreServer::start(host).await?;
    let workload = ReportWorkload::connect(server.url(), size.instances).await?;
    let baseline = UpdateBaseline::connect(server.url(), workload.instances().collect()).await?;
    let container = server.container();
    let (mut ours, mut bare) = (Usage::default(), Usage::default());
    // Without a pause first, because statements are prepared and files grow.
    workload.run(Duration::ZERO, 0).await?;
    for round in 1..=size.rounds {
        bare.measure(&container, size.period, baseline.run(size.period, round)).await?;
        let reported =
            ours.measure(&container, size.period, async { Ok(workload.run(size.period, round).await?) }).await?;
        let recent = workload.reported_within(reported + Duration::from_secs(10)).await?;
        if recent < size.instances {
            return Err(format!("only {recent} of {} reports are stored", size.instances).into());
        }
    }
    let title = format!("{} instances every {} s", size.instances, size.period.as_secs());
    let mut table = Table::new([&title, "this process, % of a CPU", "server, % of a CPU"]);
    for (name, usage) in [("conductor", &ours), ("bare statement", &bare)] {
        let percent = |shares: &[f64]| format!("{:.1}", shares.iter().map(|share| share * 100.0).collect::<Sample>());
        table.row([name.to_owned(), percent(&usage.process), percent(&usage.server)]);
    }
    let ratio = |one: &[f64], other: &[f64]| ratios(one, other).to_string();
    table.row(["ratio".to_owned(), ratio(&ours.process, &bare.process), ratio(&ours.server, &bare.server)]);
    println!("\n{table}");
    workload.close().await;
    server.stop().await
}

/// The processor time of each round, as a part of its duration.
#[derive(Default)]
struct Usage {
    process: Vec<f64>,
    server: Vec<f64>,
}

impl Usage {
    async fn measure(
        &mut self,
        container: &str,
        period: Duration,
        round: impl Future<Output = Result<Duration>>,
    ) -> Result<Duration> {
        let (process, server) = (process_cpu_time(), container_cpu_time(container).await?);
        let took = round.await?;
        self.process.push((process_cpu_time() - process) / period.as_secs_f64());
        self.server.push((container_cpu_time(container).await? - server) / period.as_secs_f64());
        Ok(took)
    }
}
