//! Servers that nobody asks anything, by engine and flavor.

use std::time::Duration;

use tokio::time::sleep;
use trove_benches::{Client, Engine, Floor, Marks, Result, Session, Site, Table, container_memory};
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
            let (floor, ours) =
                (container_memory(bare.container()).await?, container_memory(&resource_name(instance.id)).await?);
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
