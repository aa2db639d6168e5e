//! The memory of idle servers, by engine and flavor.

use std::time::Duration;

use tokio::time::sleep;
use trove_benches::{Baseline, BenchHost, DockerClient, Engine, Result, SqlClient, Table, Timeline, container_memory};
use trove_core::{
    control::NewInstance,
    datastore::resource_name,
    model::{Flavor, gib},
};

const PASSWORD: &str = "correct horse battery";

/// The memory of the largest flavor to measure, so that the benchmark runs on a small machine.
const MAX_FLAVOR_GIB: u64 = 2;

/// Measures each engine after its servers were idle for a while. The slot holds the current host.
pub(super) async fn compare(slot: &mut Option<BenchHost>, engines: &[Engine], idle_time: Duration) -> Result<()> {
    let mut table = Table::new(["idle server, MiB", "limit", "baseline", "trove", "trove / baseline"]);
    for engine in engines {
        drop(slot.take());
        let host = slot.insert(BenchHost::new(env!("CARGO_TARGET_TMPDIR"), *engine)?);
        let trove = host.start().await?;
        Baseline::create_network(host).await?;
        for flavor in trove.flavors().iter().filter(|flavor| flavor.memory <= gib(MAX_FLAVOR_GIB)) {
            let baseline = Baseline::new(host, flavor, DockerClient::api()?, PASSWORD);
            let server = baseline.create(&flavor.name, None, &mut Timeline::start()).await?;
            let new = NewInstance::new("bench", engine.name()).flavor(&flavor.name);
            let instance = trove.create(new.database("app").user("app", PASSWORD)).await?.active().await?;
            let endpoint = instance.endpoint.clone().ok_or("an active instance has no endpoint")?;
            SqlClient::connect(*engine, &endpoint, "app", "app", PASSWORD).await?.query("SELECT 1").await?;
            sleep(idle_time).await;
            let server_memory = container_memory(server.container()).await?;
            let instance_memory = container_memory(&resource_name(instance.id)).await?;
            table.row(row(*engine, flavor, server_memory, instance_memory));
            server.remove().await?;
            instance.delete().await?.wait().await?;
        }
        trove.shut_down().await;
    }
    if !engines.is_empty() {
        println!("\n{table}");
    }
    Ok(())
}

fn row(engine: Engine, flavor: &Flavor, baseline: f64, trove: f64) -> [String; 5] {
    let ratio = trove / baseline;
    let [baseline, trove] = [baseline, trove].map(|bytes| format!("{:.0}", bytes / 1024.0 / 1024.0));
    [format!("{engine}, {}", flavor.name), flavor.memory.to_string(), baseline, trove, format!("{ratio:.2}")]
}
