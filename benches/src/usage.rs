//! Resource usage of processes and containers.

use std::{fs, time::Duration};

use bollard::{Docker, models::ContainerStatsResponse, query_parameters::StatsOptionsBuilder};
use futures_util::StreamExt;
use rustix::time::{ClockId, clock_gettime};

use crate::Result;

/// Returns a memory field of `/proc/PID/status` in KiB, such as `VmRSS`.
pub fn process_memory(pid: u32, field: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let value = line.and_then(|line| line.split_whitespace().next());
    Ok(value.ok_or_else(|| format!("the status of process {pid} has no field {field}"))?.parse()?)
}

/// Returns the CPU time of this process in seconds.
pub fn process_cpu_time() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default().as_secs_f64()
}

/// Returns the CPU time of a container in seconds.
pub async fn container_cpu_time(container: &str) -> Result<f64> {
    let usage = stats(container).await?.cpu_stats.and_then(|cpu| cpu.cpu_usage).and_then(|cpu| cpu.total_usage);
    Ok(Duration::from_nanos(usage.ok_or("the container statistics have no CPU time")?).as_secs_f64())
}

/// Returns the memory of a container in bytes, without the inactive file cache.
pub async fn container_memory(container: &str) -> Result<f64> {
    let memory = stats(container).await?.memory_stats.ok_or("the container statistics have no memory")?;
    let field = |name: &str| memory.stats.as_ref().and_then(|stats| stats.get(name)).copied();
    let inactive = field("total_inactive_file").or_else(|| field("inactive_file")).unwrap_or_default();
    let used = memory.usage.ok_or("the container statistics have no memory usage")?.saturating_sub(inactive);
    // Exact up to 8 PiB.
    Ok(used as f64)
}

async fn stats(container: &str) -> Result<ContainerStatsResponse> {
    let options = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
    let stats = Docker::connect_with_defaults()?.stats(container, Some(options)).next().await;
    stats.transpose()?.ok_or_else(|| "the engine returned no container statistics".into())
}
