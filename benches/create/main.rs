//! How long a new server takes, from the request to the first query answered over TCP as its new user.
//!
//! **Ours**: `Trove::create`, `active`, connect, query; with everything that the library does besides: journal on
//! SQLite, an agent, a network that keeps instances apart, a read-only container without capabilities, rights inside.
//!
//! **Floor**: the same image and the bare essentials. A container that initialises, a container that serves on a port
//! of loopback, database and user made over the server's socket, connect, query. Memory, processors and user are
//! limited alike, the data is on the same file system. Twice: by the Docker Engine's API, which is the strict one, and
//! by the `docker` command, as by hand.
//!
//! **Cold** is the first instance of a platform. Later ones of MySQL and MariaDB begin with a copy of a data directory
//! that was initialised before, **template** in the table; so do those of the floor beside them.
//!
//! **To read**: a ratio of 1.20 says that an instance takes a fifth longer than the bare commands. The second table says
//! where the time went: when each thing had been reached, counted from the request.
//!
//! Every instance is the only one of its platform, so that the platform's network is made and removed each time. The
//! floor's is made once, before all.
//! Options: `--rounds 5`, and `--mysql 0` to leave an engine out.
#![allow(clippy::print_stdout, reason = "its result is what it prints")]

use std::{process::ExitCode, time::Instant};

use futures_util::FutureExt;
use tokio::task::unconstrained;
use trove_benches::{Client, Engine, Floor, Marks, Options, Result, Sample, Session, Site, Table, ratios, run};
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

/// One of a pair.
type Side = fn(&Pair) -> &Marks;

/// A floor and ours, neighbours in time.
struct Pair {
    what: &'static str,
    by: &'static str,
    floor: Marks,
    ours: Marks,
}

fn main() -> ExitCode {
    // Made out here so that it is cleared after everything that works in it has ended.
    let mut site = None;
    let outcome = run(async {
        let mut known = vec![("rounds", 5)];
        known.extend(Engine::OPTIONS);
        let options = Options::from_command_line(&known)?;
        let mut totals = Table::new(["create to first query", "floor, seconds", "trove, seconds", "trove / floor"]);
        let mut marks = Table::new(["reached after", "seconds"]);
        for engine in Engine::wanted(&options)? {
            let rounds = compare(&mut site, engine, options.count("rounds")).await?;
            summarise(engine, &rounds, &mut totals, &mut marks);
        }
        println!("\n{totals}\n{marks}");
        Ok(())
    });
    drop(site);
    outcome
}

async fn compare(slot: &mut Option<Site>, engine: Engine, rounds: usize) -> Result<Vec<Vec<Pair>>> {
    let mut measured = Vec::new();
    for round in 0..=rounds {
        // Only a platform that is new has no template yet.
        drop(slot.take());
        let pairs = measure(slot.insert(Site::new(env!("CARGO_TARGET_TMPDIR"), engine)?)).await?;
        // The first is not counted: the image's files come from the disk.
        if round == 0 {
            continue;
        }
        for Pair { what, by, floor, ours } in &pairs {
            println!(
                "round {round}: {engine}, {what}, {by}: floor {:.2} s, trove {:.2} s",
                floor.total(),
                ours.total()
            );
        }
        measured.push(pairs);
    }
    Ok(measured)
}

/// Every comparison once.
async fn measure(site: &Site) -> Result<Vec<Pair>> {
    let trove = site.start().await?;
    // The most that is asked for is what the default flavor gives.
    let flavor = trove.flavors().first().cloned().unwrap_or_else(|| Flavor::new("small", mib(512), 1));
    let api = Floor::new(site, &flavor, Client::api()?, PASSWORD);
    let command = Floor::new(site, &flavor, Client::Command, PASSWORD);
    Floor::make_network(site).await?;
    let floor = bare(&api, None).await?;
    let cold = ours(&trove, site.engine()).await?;
    let by_hand = bare(&command, None).await?;
    let mut pairs = vec![
        Pair { what: "cold", by: API, floor, ours: cold.clone() },
        Pair { what: "cold", by: COMMAND, floor: by_hand, ours: cold },
    ];
    if site.engine().has_template() {
        let template = api.template("template").await?;
        let floor = bare(&api, Some(&template)).await?;
        pairs.push(Pair { what: "template", by: API, floor, ours: ours(&trove, site.engine()).await? });
    }
    trove.shut_down().await;
    Ok(pairs)
}

fn summarise(engine: Engine, rounds: &[Vec<Pair>], totals: &mut Table, marks: &mut Table) {
    let Some(first) = rounds.first() else { return };
    for (number, Pair { what, by, .. }) in first.iter().enumerate() {
        let pairs = || rounds.iter().filter_map(|pairs| pairs.get(number));
        let seconds = |side: Side| pairs().map(|pair| side(pair).total()).collect::<Vec<_>>();
        let (floor, ours) = (seconds(|pair| &pair.floor), seconds(|pair| &pair.ours));
        let ratio = ratios(&ours, &floor).to_string();
        let [floor, ours] = [floor, ours].map(|side| side.into_iter().collect::<Sample>().to_string());
        totals.row([format!("{engine}, {what}, {by}"), floor, ours, ratio]);
        let mut sides = vec![(*by, (|pair| &pair.floor) as Side)];
        // Beside the command it is the same of ours as beside the API.
        if *by == API {
            sides.push(("trove", |pair| &pair.ours));
        }
        for (name, side) in sides {
            for (place, (mark, _)) in pairs().next().into_iter().flat_map(|pair| side(pair).reached()).enumerate() {
                let at: Sample =
                    pairs().filter_map(|pair| side(pair).reached().nth(place)).map(|mark| mark.1).collect();
                marks.row([format!("{engine}, {what}, {name}: {mark}"), at.to_string()]);
            }
        }
    }
}

/// Creates a bare server and removes it.
async fn bare(floor: &Floor<'_>, template: Option<&std::path::Path>) -> Result<Marks> {
    let mut marks = Marks::start();
    let server = floor.create("server", template, &mut marks).await?;
    server.remove().await?;
    Ok(marks)
}

/// Creates an instance as an embedder would, asks it something, and deletes it.
async fn ours(trove: &Trove, engine: Engine) -> Result<Marks> {
    let new = NewInstance::new("bench", engine.name()).database("app").user("app", PASSWORD);
    let events = trove.events();
    let (began, started, mut marks) = (Timestamp::now(), Instant::now(), Marks::start());
    let instance = trove.create(new).await?.active().await?;
    let active = started.elapsed();
    let endpoint = instance.endpoint.clone().ok_or("an active instance has no endpoint")?;
    Session::connect(engine, &endpoint, "app", "app", PASSWORD).await?.ask("SELECT 1").await?;
    let answered = started.elapsed();
    told(events, began, &mut marks);
    marks.add("active", active);
    marks.add("first query", answered);
    instance.delete().await?.wait().await?;
    Ok(marks)
}

/// What the service has told so far. A step that waits is entered anew, and counts once.
fn told(mut events: EventStream, began: Timestamp, marks: &mut Marks) {
    // Not to be told to wait because this task has done much already.
    while let Some(Some(event)) = unconstrained(events.next()).now_or_never() {
        let mark = match event.kind {
            EventKind::Step { step, .. } => format!("step {step}"),
            EventKind::Progress { progress, .. } => progress.phase,
            EventKind::Ended { .. } => "ended".to_owned(),
            _ => continue,
        };
        marks.add(&mark, elapsed(began, event.at));
    }
}
