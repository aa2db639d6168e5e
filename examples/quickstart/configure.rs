//! The configuration phase: changes a dynamic parameter and one that requires a restart.

use std::time::Duration;

use trove_core::{
    control::{InstanceHandle, NewConfiguration},
    error::{Error, Result},
};

use crate::{Options, report::Report, service::Service, tour::App};

/// The deadline for the report of the guest.
const REPORT_DEADLINE: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The two parameters, each with a value other than its default.
struct Change {
    dynamic: (&'static str, &'static str),
    restart: (&'static str, &'static str),
}

/// Assigns a configuration group to an instance and removes it again; returns a summary.
pub(crate) async fn configure(
    options: &Options,
    service: &Service,
    instance: &InstanceHandle,
    app: &App,
    report: &Report,
) -> Result<String> {
    let change = Change::of(&options.datastore);
    let ((dynamic, dynamic_value), (restart, restart_value)) = (change.dynamic, change.restart);
    let before = values(instance, &change, app).await?;

    let mut new = NewConfiguration::new("quickstart", &options.datastore);
    if let Some(version) = &options.version {
        new = new.version(version);
    }
    // Validated against the parameter catalog of the image.
    let group =
        service.trove.configurations().create(new.set(dynamic, dynamic_value).set(restart, restart_value)).await?;
    report.follow(service, async { instance.configure(group.id).await?.wait().await }).await?;
    expect(values(instance, &change, app).await?, [dynamic_value, &before[1]])?;
    expect_restart_required(service, instance, &[restart]).await?;

    report.follow(service, async { instance.restart().await?.active().await }).await?;
    expect(values(instance, &change, app).await?, [dynamic_value, restart_value])?;
    expect_restart_required(service, instance, &[]).await?;

    report.follow(service, async { instance.unconfigure().await?.wait().await }).await?;
    expect(values(instance, &change, app).await?, [&before[0], restart_value])?;
    service.trove.configurations().delete(group.id).await?;
    Ok(format!(
        "{dynamic} was changed to {dynamic_value} at once and {restart} to {restart_value} by a restart; then both were reset"
    ))
}

impl Change {
    fn of(datastore: &str) -> Self {
        if datastore == "postgresql" {
            return Self { dynamic: ("work_mem", "12MB"), restart: ("max_locks_per_transaction", "80") };
        }
        if datastore == "valkey" {
            return Self { dynamic: ("maxmemory-policy", "allkeys-lru"), restart: ("databases", "24") };
        }
        Self { dynamic: ("wait_timeout", "600"), restart: ("back_log", "90") }
    }
}

/// Returns the effective values in a new session.
async fn values(instance: &InstanceHandle, change: &Change, app: &App) -> Result<[String; 2]> {
    let mut client = app.connect(instance).await?;
    Ok([client.parameter(change.dynamic.0).await?, client.parameter(change.restart.0).await?])
}

fn expect(found: [String; 2], wanted: [&str; 2]) -> Result<()> {
    if found == wanted {
        return Ok(());
    }
    Err(Error::internal(format!("the parameters are {} instead of {}", found.join(" and "), wanted.join(" and "))))
}

/// Waits until the instance lists exactly these parameters as requiring a restart.
async fn expect_restart_required(service: &Service, instance: &InstanceHandle, wanted: &[&str]) -> Result<()> {
    let reported = async {
        while service.trove.instance(instance.id).await?.settings.restart_required != wanted {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    };
    let late = |_| Err(Error::timeout("timed out waiting for the parameters that require a restart"));
    tokio::time::timeout(REPORT_DEADLINE, reported).await.unwrap_or_else(late)
}
