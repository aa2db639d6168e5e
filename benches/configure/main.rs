//! How long a change of a parameter takes, from the request until the server has it in force.
//!
//! **Ours**: a value of a configuration group is changed; the service checks it against the catalog, writes it down,
//! has each instance of the group given it as a durable operation, and its agent renders the files and tells the
//! server. **Live** is a parameter that a running server takes, **restart** one that it does not: there the restart is
//! asked for too, and counted.
//!
//! **Floor**: a bare server with the same image and limits. Live, the administrator says it to the server over its
//! socket, in a session that is open already, and asks until it is in force. Restart: the server is stopped by its
//! signal, its container removed and another one started with the option, until it answers its user.
//!
//! **To read**: live, the ratio is what durability and the way through the agent cost beside one statement; what counts
//! is that the time is short. For a restart it should be near 1.
//!
//! Options: `--rounds 5`, and `--mysql 0` to leave an engine out.
#![allow(clippy::print_stdout, reason = "its result is what it prints")]

mod knob;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use knob::Knob;
use trove_benches::{Client, Engine, Floor, Marks, Options, Result, Sample, Server, Session, Site, Table, ratios, run};
use trove_core::{
    Trove,
    control::{InstanceHandle, NewConfiguration, NewInstance},
    error::Kind,
    id::ConfigurationId,
    model::{Flavor, Settings, mib},
};

const PASSWORD: &str = "correct horse battery";

/// How long a value may take to be in force.
const LIMIT: Duration = Duration::from_secs(30);

/// Milliseconds of the floor and of ours, round by round.
#[derive(Default)]
struct Times {
    floor: Vec<f64>,
    ours: Vec<f64>,
}

/// An instance and the group that it has.
struct Ours<'a> {
    engine: Engine,
    trove: &'a Trove,
    instance: InstanceHandle,
    group: ConfigurationId,
}

fn main() -> ExitCode {
    // Made out here so that it is cleared after everything that works in it has ended.
    let mut site = None;
    let outcome = run(async {
        let mut known = vec![("rounds", 5)];
        known.extend(Engine::OPTIONS);
        let options = Options::from_command_line(&known)?;
        let mut table = Table::new(["from request to in force", "floor, ms", "trove, ms", "trove / floor"]);
        for engine in Engine::wanted(&options)? {
            drop(site.take());
            let site = site.insert(Site::new(env!("CARGO_TARGET_TMPDIR"), engine)?);
            compare(site, options.count("rounds"), &mut table).await?;
        }
        println!("\n{table}");
        Ok(())
    });
    drop(site);
    outcome
}

async fn compare(site: &Site, rounds: usize, table: &mut Table) -> Result<()> {
    let engine = site.engine();
    let trove = site.start().await?;
    let started = Instant::now();
    let group = match trove.configurations().create(group(engine)).await {
        Err(error) if error.kind() == Kind::Unsupported => {
            println!("{engine} is left out: {error}");
            trove.shut_down().await;
            return Ok(());
        }
        created => created?.id,
    };
    println!("{engine}: the catalog was read in {:.2} s, once an image", started.elapsed().as_secs_f64());

    let flavor = trove.flavors().first().cloned().unwrap_or_else(|| Flavor::new("small", mib(512), 1));
    let floor = Floor::new(site, &flavor, Client::api()?, PASSWORD);
    Floor::make_network(site).await?;
    let bare = floor.create("server", None, &mut Marks::start()).await?;
    let new = NewInstance::new("bench", engine.name()).database("app").user("app", PASSWORD);
    let instance = trove.create(new).await?.active().await?;
    instance.configure(group).await?.wait().await?;
    let ours = Ours { engine, trove: &trove, instance, group };

    let (mut live, mut restart) = (Times::default(), Times::default());
    for round in 1..=rounds {
        live.floor.push(bare_live(engine, &bare, round).await?);
        live.ours.push(ours.change(&Knob::live(engine), round, false).await?);
        restart.floor.push(bare_restart(engine, &bare, round).await?);
        restart.ours.push(ours.change(&Knob::at_start(engine), round, true).await?);
    }
    for (what, times) in [("live", live), ("restart", restart)] {
        let ratio = ratios(&times.ours, &times.floor).to_string();
        let [floor, ours] = [times.floor, times.ours].map(|side| side.into_iter().collect::<Sample>().to_string());
        table.row([format!("{engine}, {what}"), floor, ours, ratio]);
    }
    bare.remove().await?;
    ours.instance.delete().await?.wait().await?;
    trove.shut_down().await;
    Ok(())
}

/// With values of both parameters from the beginning, so that every round changes one.
fn group(engine: Engine) -> NewConfiguration {
    [Knob::live(engine), Knob::at_start(engine)]
        .into_iter()
        .fold(NewConfiguration::new("bench", engine.name()), |group, knob| group.set(knob.name, knob.setting(0)))
}

impl Ours<'_> {
    /// Changes a parameter of the group, and restarts the instance where that is asked for.
    async fn change(&self, knob: &Knob, round: usize, restart: bool) -> Result<f64> {
        let started = Instant::now();
        let changed = Settings::from([(knob.name.to_owned(), knob.setting(round))]);
        for operation in self.trove.configurations().set(self.group, changed).await? {
            operation.wait().await?;
        }
        if restart {
            self.instance.restart().await?.active().await?;
        }
        let endpoint = self.instance.endpoint.as_ref().ok_or("an active instance has no endpoint")?;
        in_force(&mut Session::connect(self.engine, endpoint, "app", "app", PASSWORD).await?, knob, round).await?;
        Ok(milliseconds(started))
    }
}

async fn bare_live(engine: Engine, bare: &Server<'_>, round: usize) -> Result<f64> {
    let (knob, mut session) = (Knob::live(engine), bare.administer().await?);
    let started = Instant::now();
    for statement in knob.by_hand(round) {
        session.run(&statement).await?;
    }
    in_force(&mut session, &knob, round).await?;
    Ok(milliseconds(started))
}

async fn bare_restart(engine: Engine, bare: &Server<'_>, round: usize) -> Result<f64> {
    let (knob, started) = (Knob::at_start(engine), Instant::now());
    bare.restart(&[knob.option(round)]).await?;
    in_force(&mut bare.connect().await?, &knob, round).await?;
    Ok(milliseconds(started))
}

/// Asks the server until it has the round's value.
async fn in_force(session: &mut Session, knob: &Knob, round: usize) -> Result<()> {
    let asking = async {
        while session.ask(knob.ask()).await? != knob.value(round) {
            tokio::task::yield_now().await;
        }
        Ok(())
    };
    tokio::time::timeout(LIMIT, asking).await.map_err(|_| format!("{} does not change", knob.name))?
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
