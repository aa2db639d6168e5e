//! Checks a tenant's settings against the memory of a server. Pure.

use trove_core::{
    datastore::in_units,
    error::{Error, Result},
    model::{ByteSize, Flavor, Settings},
};

use super::memory_budget::{MemoryBudget, SESSION_MIB};

const MIB: f64 = 1_048_576.0;

/// The minimum memory for each connection.
const CONNECTION_SHARE_MIB: u64 = 8;

/// The minimum number of connections of a useful server.
const LEAST_CONNECTIONS: u64 = 10;

/// The maximum number of threads of each kind.
const THREADS: [(&str, u64); 6] = [
    ("innodb_read_io_threads", 64),
    ("innodb_write_io_threads", 64),
    ("innodb_purge_threads", 32),
    ("innodb_page_cleaners", 64),
    ("innodb_parallel_read_threads", 64),
    ("innodb_ddl_threads", 64),
];

/// Minimum limits of sessions, which also apply to the administrator's.
const FLOORS: [(&str, f64); 7] = [
    ("max_user_connections", 10.0),
    ("max_statement_time", 1.0),
    ("max_execution_time", 1000.0),
    ("max_allowed_packet", MIB),
    ("max_session_mem_used", 64.0 * MIB),
    ("max_tmp_session_space_usage", 64.0 * MIB),
    ("max_tmp_total_space_usage", 64.0 * MIB),
];

/// Those for which 0 means no limit.
const NO_LIMIT_IF_0: [&str; 5] = [
    "max_user_connections",
    "max_statement_time",
    "max_execution_time",
    "max_tmp_session_space_usage",
    "max_tmp_total_space_usage",
];

/// Buffers of every session, and their defaults in MiB.
const SESSION_BUFFERS: [(&str, f64); 9] = [
    ("sort_buffer_size", 0.25),
    ("join_buffer_size", 0.25),
    ("read_buffer_size", 0.125),
    ("read_rnd_buffer_size", 0.25),
    ("binlog_cache_size", 0.03),
    ("binlog_stmt_cache_size", 0.03),
    ("mrr_buffer_size", 0.25),
    ("net_buffer_length", 0.015),
    ("set_operations_buffer_size", 0.25),
];

/// Buffers that exist once for each server.
const SERVER_BUFFERS: [&str; 9] = [
    "key_buffer_size",
    "innodb_log_buffer_size",
    "query_cache_size",
    "aria_pagecache_buffer_size",
    "innodb_ft_total_cache_size",
    "histogram_generation_max_mem_size",
    "mhnsw_max_cache_size",
    "innodb_ddl_buffer_size",
    "innodb_sort_buffer_size",
];

/// Returns the maximum number of connections for a server with this memory.
pub(super) fn most_connections(flavor: &Flavor) -> u64 {
    (flavor.memory.as_mib() / CONNECTION_SHARE_MIB).clamp(20, 5000)
}

/// Returns the maximum number of threads, besides those of connections, with any allowed settings.
pub(super) fn most_threads() -> u64 {
    THREADS.iter().map(|(_, most)| most).sum()
}

/// Returns [`Invalid`](trove_core::error::Kind::Invalid) for settings that exceed the memory.
pub(super) fn check(flavor: &Flavor, server_mib: u64, settings: &Settings) -> Result<()> {
    let budget = MemoryBudget::new(flavor, ByteSize::default(), server_mib);
    let bounds = THREADS.map(|(name, most)| (name, 1, most));
    for (name, least, most) in
        [("max_connections", LEAST_CONNECTIONS, most_connections(flavor))].into_iter().chain(bounds)
    {
        if let Some(set) = number(settings, name)
            && !(least as f64..=most as f64).contains(&set)
        {
            let memory = flavor.memory;
            return Err(Error::invalid(format!(
                "parameter {name} must be from {least} to {most} for a server with {memory} of memory, not {set}"
            )));
        }
    }
    for (name, least) in FLOORS {
        if let Some(set) = number(settings, name)
            && set < least
            && (set != 0.0 || !NO_LIMIT_IF_0.contains(&name))
        {
            return Err(Error::invalid(format!("parameter {name} must be {least} or more, not {set}")));
        }
    }
    if number(settings, "max_session_mem_used").is_some_and(|set| set > i64::MAX as f64) {
        return Err(Error::invalid("max_session_mem_used must be less than 2^63"));
    }
    let mib = |name: &str| number(settings, name).map(|bytes| bytes / MIB);
    let memory = flavor.memory.as_mib() as f64;
    let fits = |what: &str, asked: f64, limit: f64| match asked <= limit {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "{what} would be {asked:.0} MiB; a server with {} of memory allows at most {limit:.0} MiB",
            flavor.memory
        ))),
    };
    let pool = mib("innodb_buffer_pool_size").unwrap_or(budget.buffer_pool_mib as f64);
    fits("innodb_buffer_pool_size", pool, memory * 0.7)?;
    let once: f64 = SERVER_BUFFERS.iter().filter_map(|name| mib(name)).sum();
    let connections = number(settings, "max_connections").unwrap_or(f64::from(budget.max_connections));
    let more: f64 = SESSION_BUFFERS.iter().filter_map(|(name, usual)| Some((mib(name)? - usual).max(0.0))).sum();
    let all = pool + once + connections * (SESSION_MIB as f64 + more);
    let limit = (memory - server_mib as f64).max(pool + f64::from(budget.max_connections) * SESSION_MIB as f64);
    fits("innodb_buffer_pool_size, other caches and the buffers of every connection", all, limit.max(memory * 0.7))
}

fn number(settings: &Settings, name: &str) -> Option<f64> {
    settings.get(name).and_then(|setting| in_units(setting, ""))
}

#[cfg(test)]
mod tests {
    use trove_core::model::{Setting, gib, mib};

    use super::*;

    #[test]
    fn settings_are_limited_by_the_memory() {
        let check = |memory, pairs: &[(&str, i64)]| {
            let settings = pairs.iter().map(|(name, value)| ((*name).to_owned(), Setting::from(*value))).collect();
            check(&Flavor::new("f", memory, 1), 184, &settings)
        };
        for memory in [mib(256), mib(384), mib(512), gib(1), gib(4), gib(64)] {
            check(memory, &[]).unwrap();
        }
        check(gib(1), &[("innodb_buffer_pool_size", 512 << 20)]).unwrap();
        check(gib(1), &[("max_connections", 128), ("sort_buffer_size", 1 << 20)]).unwrap();
        for (pairs, says) in [
            (vec![("innodb_buffer_pool_size", 800 << 20)], "innodb_buffer_pool_size would be 800 MiB"),
            (vec![("max_connections", 129)], "from 10 to 128"),
            (vec![("max_connections", 5)], "from 10 to 128"),
            (vec![("max_user_connections", 1)], "10 or more"),
            (vec![("sort_buffer_size", 32 << 20)], "buffers of every connection"),
            (vec![("key_buffer_size", 900 << 20)], "other caches"),
            (vec![("innodb_purge_threads", 33)], "from 1 to 32"),
        ] {
            let error = check(gib(1), &pairs).unwrap_err().to_string();
            assert!(error.contains(says), "{pairs:?}: {error}");
        }
    }
}
