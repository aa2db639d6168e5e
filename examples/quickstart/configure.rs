//! What the tour does with parameters of the server: one that it takes while it runs, one that needs a restart.

use std::time::Duration;

use trove_core::{
    control::{InstanceHandle, NewConfiguration},
    error::{Error, Result},
};

use crate::{Options, report::Report, service::Service, tour::App};

/// How long the service may take to hear of what it has changed.
const HEARSAY: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The two parameters, with a value that is not their default.
struct Change {
    live: (&'static str, &'static str),
    restart: (&'static str, &'static str),
}

/// Gives an instance a configuration group and takes it away again; tells what came of it.
pub(crate) async fn configure(
    options: &Options,
    service: &Service,
    instance: &InstanceHandle,
    app: &App,
    report: &Report,
) -> Result<String> {
    let change = Change::of(&options.datastore);
    let ((live, live_value), (late, late_value)) = (change.live, change.restart);
    let before = values(instance, &change, app).await?;

    let mut new = NewConfiguration::new("quickstart", &options.datastore);
    if let Some(version) = &options.version {
        new = new.version(version);
    }
    // Checked against what a server of this image says of its parameters.
    let group = service.trove.configurations().create(new.set(live, live_value).set(late, late_value)).await?;
    report.follow(service, async { instance.configure(group.id).await?.wait().await }).await?;
    expect(values(instance, &change, app).await?, [live_value, &before[1]])?;
    needing_restart(service, instance, &[late]).await?;

    report.follow(service, async { instance.restart().await?.active().await }).await?;
    expect(values(instance, &change, app).await?, [live_value, late_value])?;
    needing_restart(service, instance, &[]).await?;

    report.follow(service, async { instance.unconfigure().await?.wait().await }).await?;
    expect(values(instance, &change, app).await?, [&before[0], late_value])?;
    service.trove.configurations().delete(group.id).await?;
    Ok(format!("{live} was changed to {live_value} at once and {late} to {late_value} by a restart; then taken back"))
}

impl Change {
    fn of(datastore: &str) -> Self {
        if datastore == "postgresql" {
            return Self { live: ("work_mem", "12MB"), restart: ("max_locks_per_transaction", "80") };
        }
        if datastore == "valkey" {
            return Self { live: ("maxmemory-policy", "allkeys-lru"), restart: ("databases", "24") };
        }
        Self { live: ("wait_timeout", "600"), restart: ("back_log", "90") }
    }
}

/// What the server has in force, as a new session sees it.
async fn values(instance: &InstanceHandle, change: &Change, app: &App) -> Result<[String; 2]> {
    let mut client = app.connect(instance).await?;
    Ok([client.parameter(change.live.0).await?, client.parameter(change.restart.0).await?])
}

fn expect(found: [String; 2], wanted: [&str; 2]) -> Result<()> {
    if found == wanted {
        return Ok(());
    }
    Err(Error::internal(format!("the parameters are {}, not {}", found.join(" and "), wanted.join(" and "))))
}

/// Waits until the instance names these parameters as those that wait for a restart.
async fn needing_restart(service: &Service, instance: &InstanceHandle, wanted: &[&str]) -> Result<()> {
    let told = async {
        while service.trove.instance(instance.id).await?.settings.restart_required != wanted {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    };
    let late = |_| Err(Error::timeout("the instance does not tell which parameters wait for a restart"));
    tokio::time::timeout(HEARSAY, told).await.unwrap_or_else(late)
}
