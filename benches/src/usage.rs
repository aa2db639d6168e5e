//! What a process or a container used.

use std::{fs, time::Duration};

use bollard::{Docker, models::ContainerStatsResponse, query_parameters::StatsOptionsBuilder};
use futures_util::StreamExt;
use rustix::time::{ClockId, clock_gettime};

use crate::Result;

/// A line of what the kernel says of a process's memory, in KiB: `VmRSS` for one.
pub fn memory_of(process: u32, line: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let found = status.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':'));
    let value =
        found.and_then(|found| found.split_whitespace().next()).ok_or("the kernel does not say how much memory")?;
    Ok(value.parse()?)
}

/// The seconds that this process has kept a processor busy.
pub fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default().as_secs_f64()
}

/// The seconds that a container has kept a processor busy.
pub async fn container_processor_time(container: &str) -> Result<f64> {
    let usage = stats(container).await?.cpu_stats.and_then(|cpu| cpu.cpu_usage).and_then(|cpu| cpu.total_usage);
    Ok(Duration::from_nanos(usage.ok_or("a container uses no processor")?).as_secs_f64())
}

/// The memory that a container cannot do without, in bytes: what it uses without the file cache that rests.
pub async fn container_memory(container: &str) -> Result<f64> {
    let memory = stats(container).await?.memory_stats.ok_or("a container has no memory")?;
    let of = |name: &str| memory.stats.as_ref().and_then(|stats| stats.get(name)).copied();
    let resting = of("total_inactive_file").or_else(|| of("inactive_file")).unwrap_or_default();
    let used = memory.usage.ok_or("a container uses no memory")?.saturating_sub(resting);
    // Exact up to 8 PiB.
    Ok(used as f64)
}

async fn stats(container: &str) -> Result<ContainerStatsResponse> {
    let options = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
    let stats = Docker::connect_with_defaults()?.stats(container, Some(options)).next().await;
    stats.transpose()?.ok_or_else(|| "a container has no statistics".into())
}
