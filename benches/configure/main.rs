//! The time to change a parameter, from the request until the new value is in effect.
//!
//! **Trove**: a value of a configuration group is changed. The service validates it against the
//! catalog, persists it and updates each instance of the group in a durable operation, in which the
//! agent renders the configuration files and applies the value to the server. **Dynamic** is a
//! parameter that a running server can apply, **restart** one that it cannot: then the time
//! includes a requested restart.
//!
//! **Baseline**: a server with the same image and limits. Dynamic: the administrator sets the value
//! in an open session over the Unix socket, and queries it until it is in effect. Restart: the
//! server is stopped with a signal, its container is removed, and another one is started with the
//! value as an option, until its user can run a query.
//!
//! **Results**: for a dynamic parameter, the ratio is the cost of durability and of the path
//! through the agent compared with one statement; what matters is that the time is short. For a
//! restart it should be close to 1.
//!
//! Options: `--rounds 5`, and `--mysql 0` to exclude an engine.
#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]

mod parameter;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use parameter::Parameter;
use trove_benches::{
    Baseline, BaselineServer, BenchHost, DockerClient, Engine, Options, Result, Sample, SqlClient, Table, Timeline,
    ratios, run,
};
use trove_core::{
    Trove,
    control::{InstanceHandle, NewConfiguration, NewInstance},
    error::Kind,
    id::ConfigurationId,
    model::{Flavor, Settings, mib},
};

const PASSWORD: &str = "correct horse battery";

/// The deadline for a value to take effect.
const EFFECT_TIMEOUT: Duration = Duration::from_secs(30);

/// The times of each round in milliseconds.
#[derive(Default)]
struct Times {
    baseline: Vec<f64>,
    trove: Vec<f64>,
}

/// An instance and its configuration group.
struct ConfiguredInstance<'a> {
    engine: Engine,
    trove: &'a Trove,
    instance: InstanceHandle,
    group: ConfigurationId,
}

fn main() -> ExitCode {
    // Outlives the runtime, because nothing may run on the host when it is dropped.
    let mut host = None;
    let outcome = run(async {
        let mut known = vec![("rounds", 5)];
        known.extend(Engine::OPTIONS);
        let options = Options::from_command_line(&known)?;
        let mut table = Table::new(["request to effect", "baseline, ms", "trove, ms", "trove / baseline"]);
        for engine in Engine::selected(&options)? {
            drop(host.take());
            let host = host.insert(BenchHost::new(env!("CARGO_TARGET_TMPDIR"), engine)?);
            compare(host, options.count("rounds"), &mut table).await?;
        }
        println!("\n{table}");
        Ok(())
    });
    drop(host);
    outcome
}

async fn compare(host: &BenchHost, rounds: usize, table: &mut Table) -> Result<()> {
    let engine = host.engine();
    let trove = host.start().await?;
    let started = Instant::now();
    let group = match trove.configurations().create(group(engine)).await {
        Err(error) if error.kind() == Kind::Unsupported => {
            println!("{engine} is skipped: {error}");
            trove.shut_down().await;
            return Ok(());
        }
        created => created?.id,
    };
    println!("{engine}: read the parameter catalog of the image in {:.2} s", started.elapsed().as_secs_f64());

    let flavor = trove.flavors().first().cloned().unwrap_or_else(|| Flavor::new("small", mib(512), 1));
    let baseline = Baseline::new(host, &flavor, DockerClient::api()?, PASSWORD);
    Baseline::create_network(host).await?;
    let server = baseline.create("server", None, &mut Timeline::start()).await?;
    let new = NewInstance::new("bench", engine.name()).database("app").user("app", PASSWORD);
    let instance = trove.create(new).await?.active().await?;
    instance.configure(group).await?.wait().await?;
    let configured = ConfiguredInstance { engine, trove: &trove, instance, group };

    let (mut dynamic, mut restart) = (Times::default(), Times::default());
    for round in 1..=rounds {
        dynamic.baseline.push(change_dynamic(engine, &server, round).await?);
        dynamic.trove.push(configured.change(&Parameter::dynamic(engine), round, false).await?);
        restart.baseline.push(change_with_restart(engine, &server, round).await?);
        restart.trove.push(configured.change(&Parameter::restart_required(engine), round, true).await?);
    }
    for (name, times) in [("dynamic", dynamic), ("restart", restart)] {
        let ratio = ratios(&times.trove, &times.baseline).to_string();
        let [baseline, trove] = [times.baseline, times.trove].map(|side| Sample::from_iter(side).to_string());
        table.row([format!("{engine}, {name}"), baseline, trove, ratio]);
    }
    server.remove().await?;
    configured.instance.delete().await?.wait().await?;
    trove.shut_down().await;
    Ok(())
}

/// Returns a group with initial values of both parameters, so that every round changes one.
fn group(engine: Engine) -> NewConfiguration {
    let group = NewConfiguration::new("bench", engine.name());
    [Parameter::dynamic(engine), Parameter::restart_required(engine)]
        .into_iter()
        .fold(group, |group, parameter| group.set(parameter.name, parameter.setting(0)))
}

impl ConfiguredInstance<'_> {
    /// Changes a parameter of the group, restarts the instance if requested, and returns the time
    /// in milliseconds.
    async fn change(&self, parameter: &Parameter, round: usize, restart: bool) -> Result<f64> {
        let started = Instant::now();
        let changed = Settings::from([(parameter.name.to_owned(), parameter.setting(round))]);
        for operation in self.trove.configurations().set(self.group, changed).await? {
            operation.wait().await?;
        }
        if restart {
            self.instance.restart().await?.active().await?;
        }
        let endpoint = self.instance.endpoint.as_ref().ok_or("an active instance has no endpoint")?;
        let mut client = SqlClient::connect(self.engine, endpoint, "app", "app", PASSWORD).await?;
        wait_for_effect(&mut client, parameter, round).await?;
        Ok(milliseconds(started))
    }
}

async fn change_dynamic(engine: Engine, server: &BaselineServer<'_>, round: usize) -> Result<f64> {
    let (parameter, mut client) = (Parameter::dynamic(engine), server.connect_as_administrator().await?);
    let started = Instant::now();
    for statement in parameter.statements(round) {
        client.execute(&statement).await?;
    }
    wait_for_effect(&mut client, &parameter, round).await?;
    Ok(milliseconds(started))
}

async fn change_with_restart(engine: Engine, server: &BaselineServer<'_>, round: usize) -> Result<f64> {
    let (parameter, started) = (Parameter::restart_required(engine), Instant::now());
    server.restart(&[parameter.server_option(round)]).await?;
    wait_for_effect(&mut server.connect().await?, &parameter, round).await?;
    Ok(milliseconds(started))
}

/// Queries the parameter until it has the value of the round.
async fn wait_for_effect(client: &mut SqlClient, parameter: &Parameter, round: usize) -> Result<()> {
    let poll = async {
        while client.query(parameter.query()).await? != parameter.value(round) {
            tokio::task::yield_now().await;
        }
        Ok(())
    };
    tokio::time::timeout(EFFECT_TIMEOUT, poll)
        .await
        .map_err(|_| format!("timed out waiting for parameter {} to change", parameter.name))?
}

fn milliseconds(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e3
}
