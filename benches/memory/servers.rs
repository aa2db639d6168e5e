//! Servers that nobody asks anything, by engine and flavor.

use std::time::Duration;

use bollard::{Docker, query_parameters::StatsOptionsBuilder};
use futures_util::StreamExt;
use tokio::time::sleep;
use trove_benches::{Client, Engine, Floor, Marks, Result, Session, Site, Table};
use trove_core::{
    control::NewInstance,
    datastore::resource_name,
    model::{Flavor, gib},
};

const PASSWORD: &str = "correct horse battery";

/// The largest flavor that is measured: what a machine has for a test.
const LARGEST: u64 = 2;

/// Measures every engine after so long a rest. The site that is at work is in the slot.
pub(super) async fn compare(slot: &mut Option<Site>, engines: &[Engine], rest: Duration) -> Result<()> {
    let mut table = Table::new(["idle server, MiB", "of", "bare", "trove", "trove / bare"]);
    for engine in engines {
        drop(slot.take());
        let site = slot.insert(Site::new(env!("CARGO_TARGET_TMPDIR"), *engine)?);
        let trove = site.start().await?;
        Floor::make_network(site).await?;
        for flavor in trove.flavors().iter().filter(|flavor| flavor.memory <= gib(LARGEST)) {
            let floor = Floor::new(site, flavor, Client::api()?, PASSWORD);
            let bare = floor.create(&flavor.name, None, &mut Marks::start()).await?;
            let new = NewInstance::new("bench", engine.name()).flavor(&flavor.name);
            let instance = trove.create(new.database("app").user("app", PASSWORD)).await?.active().await?;
            let endpoint = instance.endpoint.clone().ok_or("an active instance has no endpoint")?;
            Session::connect(*engine, &endpoint, "app", "app", PASSWORD).await?.ask("SELECT 1").await?;
            sleep(rest).await;
            let (floor, ours) = (used(bare.container()).await?, used(&resource_name(instance.id)).await?);
            table.row(row(*engine, flavor, floor, ours));
            bare.remove().await?;
            instance.delete().await?.wait().await?;
        }
        trove.shut_down().await;
    }
    if !engines.is_empty() {
        println!("\n{table}");
    }
    Ok(())
}

fn row(engine: Engine, flavor: &Flavor, floor: f64, ours: f64) -> [String; 5] {
    let ratio = ours / floor;
    let [floor, ours] = [floor, ours].map(|used| format!("{:.0}", used / 1024.0 / 1024.0));
    [format!("{engine}, {}", flavor.name), flavor.memory.to_string(), floor, ours, format!("{ratio:.2}")]
}

/// The memory that a container cannot do without, in bytes: what it uses without the file cache that rests.
async fn used(container: &str) -> Result<f64> {
    let options = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
    let stats = Docker::connect_with_defaults()?.stats(container, Some(options)).next().await;
    let memory = stats.transpose()?.and_then(|stats| stats.memory_stats).ok_or("a container has no memory")?;
    let of = |name: &str| memory.stats.as_ref().and_then(|stats| stats.get(name)).copied();
    let resting = of("total_inactive_file").or_else(|| of("inactive_file")).unwrap_or_default();
    let used = memory.usage.ok_or("a container uses no memory")?.saturating_sub(resting);
    // Exact up to 8 PiB.
    Ok(used as f64)
}
