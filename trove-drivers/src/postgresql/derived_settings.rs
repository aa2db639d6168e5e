//! The settings that depend on the memory, the CPUs and the volume of a server. Pure.

use trove_core::model::{ByteSize, Flavor};

const KIB_PER_MIB: u64 = 1024;

/// One session is allowed for each this much memory.
const SESSION_SHARE_MIB: u64 = 20;

/// The memory that a server uses besides its sessions and its cache.
pub(super) const SERVER_MIB: u64 = 64;

/// The memory that a session uses before it sorts or hashes anything.
pub(super) const SESSION_MIB: u64 = 6;

/// How many times at once each session is assumed to use `work_mem`.
const WORK_MEMS: u64 = 4;

/// The settings that depend on the size of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DerivedSettings {
    pub(super) shared_buffers_mib: u64,
    effective_cache_size_mib: u64,
    pub(super) work_mem_kib: u64,
    pub(super) maintenance_work_mem_mib: u64,
    pub(super) autovacuum_work_mem_mib: u64,
    pub(super) autovacuum_max_workers: u64,
    pub(super) max_connections: u32,
    max_wal_size_mib: u64,
    min_wal_size_mib: u64,
    pub(super) max_worker_processes: u32,
    max_parallel_workers: u32,
    max_parallel_workers_per_gather: u32,
    max_parallel_maintenance_workers: u32,
}

impl DerivedSettings {
    /// Returns the settings for this flavor and volume.
    pub(super) fn new(flavor: &Flavor, volume: ByteSize) -> Self {
        let (memory, volume, vcpus) = (flavor.memory.as_mib().max(64), volume.as_mib(), flavor.vcpus.max(1));
        // The smallest servers need the memory for their sessions more than for a cache.
        let shared_buffers = if memory < 512 { memory / 8 } else { memory / 4 };
        let max_connections = (memory / SESSION_SHARE_MIB).clamp(20, 500);
        let autovacuum_max_workers = if memory < 1024 { 2 } else { 3 };
        let autovacuum_work_mem = (memory / 64).clamp(1, 512);
        let spent =
            shared_buffers + SERVER_MIB + autovacuum_max_workers * autovacuum_work_mem + SESSION_MIB * max_connections;
        // A query may sort and hash several times at once.
        let work_mem = memory.saturating_sub(spent) * KIB_PER_MIB / (WORK_MEMS * max_connections);
        let work_mem = work_mem.clamp(256, 512 * KIB_PER_MIB);
        let max_wal = (volume / 10).clamp(64, 8192);
        Self {
            shared_buffers_mib: shared_buffers,
            effective_cache_size_mib: memory * 3 / 4,
            work_mem_kib: work_mem,
            maintenance_work_mem_mib: (memory / 16).clamp(8, 2048),
            autovacuum_work_mem_mib: autovacuum_work_mem,
            autovacuum_max_workers,
            max_connections: u32::try_from(max_connections).unwrap_or(500),
            max_wal_size_mib: max_wal,
            min_wal_size_mib: (max_wal / 4).max(32),
            max_worker_processes: vcpus.max(8),
            max_parallel_workers: vcpus,
            max_parallel_workers_per_gather: (vcpus / 2).min(4),
            max_parallel_maintenance_workers: (vcpus / 2).clamp(1, 4),
        }
    }

    /// Returns the settings by name.
    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("shared_buffers", format!("{}MB", self.shared_buffers_mib)),
            ("effective_cache_size", format!("{}MB", self.effective_cache_size_mib)),
            ("work_mem", format!("{}kB", self.work_mem_kib)),
            ("maintenance_work_mem", format!("{}MB", self.maintenance_work_mem_mib)),
            ("autovacuum_work_mem", format!("{}MB", self.autovacuum_work_mem_mib)),
            ("autovacuum_max_workers", self.autovacuum_max_workers.to_string()),
            ("max_connections", self.max_connections.to_string()),
            ("max_wal_size", format!("{}MB", self.max_wal_size_mib)),
            ("min_wal_size", format!("{}MB", self.min_wal_size_mib)),
            ("max_worker_processes", self.max_worker_processes.to_string()),
            ("max_parallel_workers", self.max_parallel_workers.to_string()),
            ("max_parallel_workers_per_gather", self.max_parallel_workers_per_gather.to_string()),
            ("max_parallel_maintenance_workers", self.max_parallel_maintenance_workers.to_string()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use trove_core::model::{gib, mib};

    use super::*;

    #[test]
    fn settings_follow_the_size() {
        let of = |memory, vcpus, volume| DerivedSettings::new(&Flavor::new("f", memory, vcpus), volume);
        // memory, vcpus, volume: shared_buffers, work_mem kB, maintenance, connections, max_wal,
        // min_wal, gather
        for (memory, vcpus, volume, expected) in [
            (mib(128), 1, gib(1), (16, 256, 8, 20, 102, 32, 0)),
            (mib(256), 1, gib(1), (32, 409, 16, 20, 102, 32, 0)),
            (mib(512), 1, gib(5), (128, 1576, 32, 25, 512, 128, 0)),
            (gib(1), 2, gib(10), (256, 1756, 64, 51, 1024, 256, 1)),
            (gib(4), 4, gib(50), (1024, 1997, 256, 204, 5120, 1280, 2)),
            (gib(64), 16, gib(1000), (16384, 22810, 2048, 500, 8192, 2048, 4)),
        ] {
            let found = of(memory, vcpus, volume);
            let found = (
                found.shared_buffers_mib,
                found.work_mem_kib,
                found.maintenance_work_mem_mib,
                found.max_connections,
                found.max_wal_size_mib,
                found.min_wal_size_mib,
                found.max_parallel_workers_per_gather,
            );
            assert_eq!(found, expected, "{memory} {vcpus}");
        }
    }

    #[test]
    fn busy_sessions_fit_into_the_memory() {
        // The smallest size cannot hold as many sessions as the server has by default.
        for (memory, limit) in [
            (mib(128), mib(240)),
            (mib(256), mib(256)),
            (mib(512), mib(512)),
            (gib(2), gib(2)),
            (gib(8), gib(8)),
            (gib(64), gib(64)),
        ] {
            let found = DerivedSettings::new(&Flavor::new("f", memory, 1), gib(10));
            let sessions = u64::from(found.max_connections);
            let kib = found.shared_buffers_mib * 1024
                + 64 * 1024
                + found.autovacuum_max_workers * found.autovacuum_work_mem_mib * 1024
                + sessions * (6 * 1024 + 4 * found.work_mem_kib);
            assert!(kib <= limit.as_mib() * 1024, "{memory}: {kib} KiB");
        }
    }

    #[test]
    fn derived_settings_are_valid_for_every_size() {
        for memory in [0, 1, 64, 128, 1 << 20, 1 << 30] {
            for volume in [0, 1, 1 << 10, 1 << 30] {
                let found = DerivedSettings::new(&Flavor::new("f", mib(memory), 0), mib(volume));
                assert!(found.shared_buffers_mib >= 8 && found.max_connections >= 20 && found.min_wal_size_mib >= 32);
                assert!(found.max_wal_size_mib >= found.min_wal_size_mib && found.work_mem_kib >= 256);
                assert!(found.autovacuum_work_mem_mib >= 1);
            }
        }
    }
}
