//! How long a new PostgreSQL takes, from the request to the first query answered over TCP as its new user.
//!
//! **Ours**: `Trove::create`, `active`, connect, query; with everything that the library does besides: journal on
//! SQLite, an agent, a network that keeps instances apart, a read-only container without capabilities, rights inside.
//!
//! **Floor**: the same image and the bare essentials. A container that runs `initdb`, a container that serves on a port
//! of loopback, role and database made over the server's socket, connect, query. Memory, processors and user are
//! limited alike, the data is on the same file system. Twice: by the Docker Engine's API, which is the strict one, and
//! by the `docker` command, as by hand.
//!
//! **To read**: a ratio of 1.20 says that an instance takes a fifth longer than the bare commands. The second table says
//! where the time went: when each thing had been reached, counted from the request.
//!
//! Every instance is the only one of its platform, so that the platform's network is made and removed each time. The
//! floor's is made once, before all.
//! Options: `--rounds 5`.
#![allow(clippy::print_stdout, reason = "its result is what it prints")]

mod client;
mod floor;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use client::Client;
use floor::Floor;
use futures_util::FutureExt;
use tokio_postgres::NoTls;
use trove_benches::{Options, Result, Sample, Site, Table, ratios, run};
use trove_core::{
    Trove,
    control::NewInstance,
    events::EventStream,
    model::{Endpoint, EventKind, Flavor, mib},
    time::{Timestamp, elapsed},
};

const PASSWORD: &str = "correct horse battery";

/// How often the floor asks whether a server answers.
const POLL: Duration = Duration::from_millis(10);

/// When something was reached, counted from the request.
type Marks = Vec<(String, Duration)>;

fn main() -> ExitCode {
    // Made out here so that it is cleared after everything that works in it has ended.
    let mut site = None;
    let outcome = run(async {
        let options = Options::from_command_line(&[("rounds", 5)])?;
        compare(site.insert(Site::new(env!("CARGO_TARGET_TMPDIR"))?), options.count("rounds")).await
    });
    drop(site);
    outcome
}

async fn compare(site: &Site, rounds: usize) -> Result<()> {
    let trove = site.start().await?;
    // The most that is asked for is what the default flavor gives.
    let flavor = trove.flavors().first().cloned().unwrap_or_else(|| Flavor::new("small", mib(512), 1));
    let api = Floor::new(site, &flavor, Client::api()?);
    let cli = Floor::new(site, &flavor, Client::Command);
    floor::make_network(site).await?;
    // Not counted: the image's files come from the disk.
    api.create("warm").await?;
    let mut runs = [Vec::new(), Vec::new(), Vec::new()];
    for round in 1..=rounds {
        runs[0].push(api.create(&format!("api-{round}")).await?);
        runs[1].push(ours(&trove).await?);
        runs[2].push(cli.create(&format!("cli-{round}")).await?);
        let shown: Vec<_> = runs.iter().map(|runs| format!("{:.2}", total(&runs[round - 1]))).collect();
        println!("round {round}: API {} s, trove {} s, command {} s", shown[0], shown[1], shown[2]);
    }
    trove.shut_down().await;
    print(&runs.each_ref().map(Vec::as_slice));
    Ok(())
}

fn print([api, ours, cli]: &[&[Marks]; 3]) {
    let seconds = |runs: &[Marks]| runs.iter().map(total).collect::<Vec<_>>();
    let mut table = Table::new(["create to first query", "seconds", "trove / it"]);
    for (name, runs) in [("floor, API", api), ("floor, docker command", cli)] {
        let (floor, ratio) = (seconds(runs), ratios(&seconds(ours), &seconds(runs)));
        table.row([name.to_owned(), floor.into_iter().collect::<Sample>().to_string(), ratio.to_string()]);
    }
    table.row(["trove".to_owned(), seconds(ours).into_iter().collect::<Sample>().to_string(), String::new()]);
    println!("\n{table}");

    let mut table = Table::new(["reached after", "seconds"]);
    for (name, runs) in [("API", api), ("trove", ours), ("command", cli)] {
        for (number, (mark, _)) in runs.first().into_iter().flatten().enumerate() {
            let at: Sample = runs.iter().filter_map(|run| run.get(number)).map(|mark| mark.1.as_secs_f64()).collect();
            table.row([format!("{name}: {mark}"), at.to_string()]);
        }
    }
    println!("{table}");
}

fn total(run: &Marks) -> f64 {
    run.last().map_or(f64::NAN, |(_, at)| at.as_secs_f64())
}

/// Creates an instance as an embedder would, asks it something, and deletes it.
async fn ours(trove: &Trove) -> Result<Marks> {
    let new = NewInstance::new("bench", "postgresql").database("app").user("app", PASSWORD);
    let events = trove.events();
    let (began, started) = (Timestamp::now(), Instant::now());
    let instance = trove.create(new).await?.active().await?;
    let active = started.elapsed();
    let endpoint = instance.endpoint.clone().ok_or("an active instance has no endpoint")?;
    first_query(&endpoint).await?;
    let answered = started.elapsed();
    let mut marks = marks(events, began);
    marks.push(("active".to_owned(), active));
    marks.push(("first query".to_owned(), answered));
    instance.delete().await?.wait().await?;
    Ok(marks)
}

/// What the service has told so far.
fn marks(mut events: EventStream, began: Timestamp) -> Marks {
    let mut marks = Marks::new();
    while let Some(Some(event)) = events.next().now_or_never() {
        let mark = match event.kind {
            EventKind::Step { step, .. } => format!("step {step}"),
            EventKind::Progress { progress, .. } => progress.phase,
            EventKind::Ended { .. } => "ended".to_owned(),
            _ => continue,
        };
        // A step that waits is entered anew.
        if marks.iter().all(|(other, _)| *other != mark) {
            marks.push((mark, elapsed(began, event.at)));
        }
    }
    marks
}

async fn first_query(endpoint: &Endpoint) -> Result<(), tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config.host(&endpoint.host).port(endpoint.port).user("app").password(PASSWORD).dbname("app");
    let (client, connection) = config.connect(NoTls).await?;
    let io = tokio::spawn(connection);
    client.query_one("SELECT current_user::text, 1", &[]).await?;
    io.abort();
    Ok(())
}
