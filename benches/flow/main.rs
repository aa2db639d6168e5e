//! What a step of a durable operation costs beside the commit that makes it durable.
//!
//! **Ours**: the flow engine with operations of ten steps that do nothing. It claims each, runs its steps, journals
//! after every one, and writes the end together with the instance, until all have succeeded.
//!
//! **Floor**: as many single-row `UPDATE`s, each committed by itself, by sqlx on the same database, with the same
//! durability and as many connections, prepared and without the pool's look at each connection before its use.
//!
//! **To read**: a ratio of 1.50 says that a step takes half as long again as a bare commit. On SQLite with one operation
//! at a time 1.1 is the least there can be: a claim is a commit too. The second table says which calls of the journal
//! the engine waited for, in one step's share of time; what is missing there went into the engine itself.
//!
//! `1 at a time` is one operation after the other, `16` is sixteen at once, and in the floor one or sixteen tasks. SQLite
//! has one writer; the store on PostgreSQL has eight connections to a server made with the library itself. Without an
//! image in `TROVE_IMAGE_POSTGRESQL_17` only SQLite is measured. Options: `--rounds 21 --flows 48`.
#![allow(clippy::print_stdout, reason = "its result is what it prints")]

mod floor;

use std::process::ExitCode;

use floor::Floor;
use tempfile::TempDir;
use trove_benches::{Engine, Options, Result, Sample, Site, Table, ratios, run};
use trove_core::{
    bench::{FlowWorkload, JournalCalls},
    control::NewInstance,
    secret::{ExposeSecret, generate_password},
};

const AT_ONCE: [usize; 2] = [1, 16];

fn main() -> ExitCode {
    // Made out here so that it is cleared after everything that works in it has ended.
    let mut site = None;
    let outcome = run(async {
        let options = Options::from_command_line(&[("rounds", 21), ("flows", 48)])?;
        let size = Size { rounds: options.count("rounds"), flows: options.count("flows") };
        sqlite(size).await?;
        match Site::new(env!("CARGO_TARGET_TMPDIR"), Engine::PostgreSql) {
            Ok(made) => postgresql(site.insert(made), size).await,
            Err(error) => {
                println!("PostgreSQL is left out: {error}");
                Ok(())
            }
        }
    });
    drop(site);
    outcome
}

/// How much is measured.
#[derive(Clone, Copy)]
struct Size {
    rounds: usize,
    flows: usize,
}

async fn sqlite(size: Size) -> Result<()> {
    let directory = TempDir::with_prefix_in("bench-", env!("CARGO_TARGET_TMPDIR"))?;
    let path = directory.path().join("trove.db");
    let workload = FlowWorkload::connect(&format!("sqlite:{}", path.display())).await?;
    let floor = Floor::sqlite(&path).await?;
    compare("SQLite", &workload, &floor, size).await?;
    workload.close().await;
    Ok(())
}

async fn postgresql(site: &Site, size: Size) -> Result<()> {
    let trove = site.start().await?;
    let password = generate_password(22)?;
    let new = NewInstance::new("store", "postgresql").database("store").user("store", password.clone());
    let server = trove.create(new).await?.active().await?;
    let url = server.uri("store")?.user("store").with_password(&password);
    let workload = FlowWorkload::connect(url.expose_secret()).await?;
    let floor = Floor::postgres(url.expose_secret()).await?;
    compare("PostgreSQL", &workload, &floor, size).await?;
    workload.close().await;
    server.delete().await?.wait().await?;
    trove.shut_down().await;
    Ok(())
}

async fn compare(database: &str, workload: &FlowWorkload, floor: &Floor, size: Size) -> Result<()> {
    let steps = size.flows * FlowWorkload::STEPS;
    let mut table = Table::new([database, "commits/s", "steps/s", "step µs", "step / commit"]);
    let mut shares = Table::new(["of a step, µs", "claim", "record", "look", "elsewhere", "claims", "looks"]);
    for at_once in AT_ONCE {
        // Not counted: statements are prepared, files grow.
        workload.run(at_once, at_once).await?;
        let (mut bare, mut ours, mut spent) = (Vec::new(), Vec::new(), JournalCalls::default());
        for _ in 0..size.rounds {
            bare.push(floor.commit(steps, at_once).await?.as_secs_f64());
            let (took, calls) = workload.run(size.flows, at_once).await?;
            ours.push(took.as_secs_f64());
            spent.add(&calls);
        }
        let of = |times: &[f64], f: &dyn Fn(f64) -> f64| times.iter().map(|time| f(*time)).collect::<Sample>();
        let count = f64::from(u32::try_from(steps)?);
        table.row([
            format!("{at_once} at a time"),
            format!("{:.0}", of(&bare, &|time| count / time)),
            format!("{:.0}", of(&ours, &|time| count / time)),
            format!("{:.0}", of(&ours, &|time| time / count * 1e6)),
            ratios(&ours, &bare).to_string(),
        ]);
        shares.row(share(at_once, &spent, ours.iter().sum(), count * f64::from(u32::try_from(size.rounds)?)));
    }
    println!("\n{table}\n{shares}");
    Ok(())
}

/// Where one step's time went. With several at once they wait together, so that the calls add up to more.
fn share(at_once: usize, spent: &JournalCalls, took: f64, steps: f64) -> [String; 7] {
    let micros = |seconds: f64| format!("{:.0}", seconds / steps * 1e6);
    let calls = [spent.claim, spent.record, spent.next_due].map(|(_, time)| time.as_secs_f64());
    let elsewhere = if at_once == 1 { micros(took - calls.iter().sum::<f64>()) } else { "-".to_owned() };
    let [claim, record, look] = calls.map(micros);
    let count = |calls: u32| format!("{:.2}", f64::from(calls) / steps);
    [format!("{at_once} at a time"), claim, record, look, elsewhere, count(spent.claim.0), count(spent.next_due.0)]
}
